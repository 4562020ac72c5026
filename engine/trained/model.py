"""A trained network in use: what it says of samples, and how good it is on a data set."""

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from comm.communicator import Communicator
from comm.threads import single_rank
from engine.config.arguments import as_path, check_whole
from engine.config.errors import UserError
from engine.config.paths import expand
from engine.config.recipe import Recipe
from engine.data.dataset import DataError
from engine.data.loader import Batch
from engine.data.preprocessing import Preprocessing
from engine.data.readers.normalise import Normalisation
from engine.formats.hand_on import Export, format_of, hand_on
from engine.formats.names import read_names, tensor_shapes
from engine.formats.onnx_file import OPSET, OnnxOptions
from engine.formats.trained import Trained
from engine.graph import Graph
from engine.run.agreement import agreed, check_equal
from engine.run.decoders import check_decoders
from engine.run.failures import Failures
from engine.run.output_place import check_output
from engine.run.state import State
from engine.trained.batches import Filled, filled
from engine.trained.data import Data, Opened, check_choice, open_for
from engine.trained.earlier import preprocessing_before
from engine.trained.evaluation import Evaluation
from engine.trained.handing_on import trained_of
from engine.trained.in_memory import in_memory
from engine.trained.measuring import measure
from engine.trained.prediction import Prediction
from engine.trained.probabilities import best, softmax
from engine.trained.samples import Reading, Sample
from engine.trained.views import VIEWS
from engine.training.rank import Rank
from engine.training.step import forward
from layers.kernels.jit import fingerprint
from layers.kernels.threads import Threads
from layers.layer import Array, Context
from layers.layout import from_blocked
from layers.precision import FP32

BATCH = 32
"""Samples that go through a network at once, unless somebody asks for another number."""
STOP, SKIP = "stop", "skip"
"""What a sample that cannot be read does."""


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network; use it from one thread at a time.

    Its kernel threads and buffers are made in the first call, and freed with it.
    """

    checkpoint: Path
    """The folder that it was read from, or the file of its weights."""
    state: State
    """What the checkpoint says of itself."""
    recipe: Recipe
    """What it was trained by; of a file of weights the network alone."""
    network: Graph = field(repr=False)
    tensors: dict[str, Array] = field(repr=False)
    """Weights and state by name, float32 in standard layout."""
    batch: int
    """Samples that go through the network at once."""
    threads: int

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy has, also one in another process: threads and buffers are its own."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def step(self) -> int:
        """Steps that it was trained for."""
        return self.state.step

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the logits stand for, in their order; empty in checkpoints of earlier versions."""
        return self.state.class_names

    @property
    def output_names(self) -> tuple[str, ...]:
        """The same with a number for each output that has no name."""
        (outputs,) = self.network.output_shape
        return (*self.class_names, *map(str, range(len(self.class_names), outputs)))[:outputs]

    @property
    def data_name(self) -> str:
        """What it was trained on, for messages."""
        return self.recipe.data or "data that its file does not name"

    @cached_property
    def normalisation(self) -> Normalisation | None:
        """From the pixels of its data to its input; None where the data had none."""
        saved = self.state.normalisation
        return None if saved is None else Normalisation.from_json(saved)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """From what is stored to its input, as far as that is known."""
        shape = self.network.input_shape
        return self.state.preprocessing or preprocessing_before(self.recipe, shape, self.normalisation)

    def __call__(self, x: ArrayLike, *, preprocess: bool = False) -> NDArray[np.float32]:
        """Return the logits, float32 [N, classes].

        Parameters
        ----------
        x
            float32 [N, *input_shape], as the network was trained on; with `preprocess` the pixels of images,
            uint8 [N, C, H, W], which are normalised as the training data was.

        Raises
        ------
        UserError
            Samples of another shape or type.
        """
        given = _as_array(x)
        samples = self._preprocessed(given) if preprocess else given
        wanted = self.network.input_shape
        if samples.shape[1:] != wanted or samples.dtype.kind != "f":
            raise UserError(
                f"model: got {samples.dtype} {list(samples.shape)}; must be float32 [N, {_listed(wanted)}]"
                f"{', or uint8 with preprocess=True' if samples.dtype == np.uint8 else ''}"
            )
        starts = range(0, len(samples), self.batch)
        parts = [self._padded_logits(samples[first : first + self.batch]) for first in starts]
        (classes,) = self.network.output_shape
        return np.concatenate(parts) if parts else np.empty((0, classes), np.float32)

    def predict(
        self,
        samples: str | Path | NDArray[Any] | Iterable[str | Path],
        *,
        top: int = 5,
        probabilities: bool = True,
        on_bad_sample: str = SKIP,
    ) -> list[Prediction]:
        """Return the likeliest classes of each sample.

        Parameters
        ----------
        samples
            Files of images, folders that are searched for images at any depth, .npy files; or an array
            [N, *input_shape], uint8 pixels or float32 as the network reads.
        top
            Classes of each.
        probabilities
            False: logits.
        on_bad_sample
            "skip" returns a prediction with its `error`, "stop" raises; by default as in the command predict.

        Raises
        ------
        UserError
            A sample cannot be read, with "stop"; or nothing is known of how images become samples.
        """
        check_choice("on_bad_sample", on_bad_sample, (STOP, SKIP))
        check_whole("top", top, 1)
        if isinstance(samples, np.ndarray):
            listed = self.reading.samples_of(samples)
        else:
            given = samples if isinstance(samples, Iterable) and not isinstance(samples, str) else [samples]
            listed = self.reading.samples_in([as_path("samples", each) for each in given])
        found = []
        for each in self.predictions(listed, top=top, probabilities=probabilities):
            if each.error and on_bad_sample == STOP:
                raise DataError(each.error)
            found.append(each)
        return found

    def predictions(
        self, samples: Sequence[Sample], *, top: int, probabilities: bool = True
    ) -> Iterator[Prediction]:
        """Yield what is found in each sample, or its error, in order; samples are read ahead on threads."""
        shape, names = self.network.input_shape, self.output_names
        for batch in filled(samples, shape, batch=self.batch, threads=self.threads):
            scores: NDArray[Any] = self._logits(batch.x)[: len(batch.samples)]
            yield from _named(batch, softmax(scores) if probabilities else scores, names, top)

    @cached_property
    def reading(self) -> Reading:
        """How samples become what the network reads."""
        return Reading(self.data_name, self.preprocessing, self.normalisation)

    def evaluate(
        self,
        data: Data = None,
        *,
        split: str = "",
        tta: str = "",
        on_bad_sample: str = STOP,
        world: Communicator | None = None,
        tell: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> Evaluation:
        """Return how good the network is on a data set; the same bits for any batch, threads and ranks.

        Parameters
        ----------
        data
            As for training: "images:DIR", or a folder; a data set or source of your own; None: the data
            that it was trained with. Classes are matched by name where both have names.
        split
            "train" or "test"; by default the test samples where there are any.
        tta
            "mirror": an image is seen twice, once left to right, and its probabilities are the mean of both;
            "mirror+shift": six times, see `engine.trained.views`.
        on_bad_sample
            "stop" raises, "skip" leaves the sample out and keeps its error.
        world
            All ranks that share the work, each calling this (collective); by default this process alone.
        tell
            Called with the number of samples that are done, and of all.

        Raises
        ------
        UserError
            The data cannot be read, does not fit the network, or has a class that the network does not know.
        """
        world = world or single_rank()
        opened = agreed(world, lambda: self._opened(data, split, tta=tta, on_bad_sample=on_bad_sample))
        facts = {
            "weights": self.state.weights_sha256 or "of an earlier version",
            "samples": str(len(opened.dataset)),
            "data": opened.dataset.fingerprint(),
            **fingerprint(),
        }
        agreed(world, lambda: check_equal(world, facts))
        agreed(world, lambda: check_decoders(world, opened.dataset))
        rank, context = self._rank if world.size == 1 else self._built(world)
        failures = Failures(world)
        measured = measure(
            rank,
            context,
            opened.dataset,
            failures,
            views=VIEWS.get(tta, ()),
            skip=on_bad_sample == SKIP,
            tell=tell,
        )
        if measured is None:
            failures.end(failures.agreed() or "a rank has failed")
        return Evaluation.of(
            measured,
            self.recipe,
            self.output_names,
            data=opened.name,
            split=opened.split,
            step=self.step,
            tta=tta,
        )

    def export(
        self,
        path: str | Path,
        *,
        to: str | None = None,
        softmax: bool = False,
        preprocess: bool = False,
        opset: int = OPSET,
        names: str = "",
        overwrite: bool = False,
    ) -> list[str]:
        """Write the network for other programs, as ``python -m engine.export`` does; return what it says.

        Parameters
        ----------
        to
            "onnx", "torch" or "safetensors"; by default what the ending of the path says.
        softmax, preprocess, opset
            ONNX: give probabilities, read pixels, use this version of the operators.
        names
            Weights: other names for tensors, "torchvision:vgg11" or a TOML file.

        Raises
        ------
        UserError
            It cannot be written, or other programs do not get the same from it.
        """
        file = expand(str(as_path("path", path)), "path")
        check_whole("opset", opset, 1)
        check_output(file, overwrite=overwrite, reads=(self.checkpoint,))
        onnx = OnnxOptions(softmax, preprocess, opset)
        named = read_names(str(as_path("names", names)), tensor_shapes(self.network)) if names else None
        return hand_on(self.handed_on(), Export(file, format_of(file, to), named, onnx, overwrite))

    def handed_on(self) -> Trained:
        """Return the network as other programs are told of it; they compute in fp32, and so do its logits."""
        plain = replace(self, recipe=replace(self.recipe, precision=FP32))
        return trained_of(
            self.state, self.recipe, self.network, self.tensors, self.normalisation, logits=plain.__call__
        )

    def _logits(self, full: Array) -> NDArray[np.float32]:
        """Return the logits of a whole batch, float32 [batch, *input_shape]."""
        absent = np.full(self.batch, -1)
        rank, run = self._rank
        forward(rank, Batch(full, absent.astype(np.int32), absent, epoch=0), run)
        return from_blocked(rank.memory.output, self.network.output_shape)

    def _padded_logits(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        full = np.zeros((self.batch, *self.network.input_shape), np.float32)
        with np.errstate(over="ignore"):  # what is beyond float32 is infinite
            full[: len(samples)] = samples
        return self._logits(full)[: len(samples)].copy()

    def _preprocessed(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        wanted = self.network.input_shape
        if self.normalisation is None:
            raise UserError(f"model: {self.data_name} has no preprocessing; give what the network reads")
        if pixels.dtype != np.uint8 or pixels.shape[1:] != wanted:
            raise UserError(
                f"model: got {pixels.dtype} {list(pixels.shape)}; with preprocess must be uint8 "
                f"[N, {_listed(wanted)}]"
            )
        samples = np.empty(pixels.shape, np.float32)
        for image, sample in zip(pixels, samples, strict=True):
            self.normalisation.apply(image, sample)
        return samples

    def _opened(self, data: Data, split: str, *, tta: str, on_bad_sample: str) -> Opened:
        check_choice("tta", tta, ("", *VIEWS))
        check_choice("on_bad_sample", on_bad_sample, (STOP, SKIP))
        if tta and len(self.network.input_shape) != 3:
            raise UserError(
                f"tta: the network reads samples of shape {self.network.input_shape}; only images mirror"
            )
        return open_for(self.network, self.recipe, self.state, data, split)

    @cached_property
    def _rank(self) -> tuple[Rank, Context]:
        """The network with its memory, on this process alone."""
        return self._built(single_rank())

    def _built(self, world: Communicator) -> tuple[Rank, Context]:
        threads = Threads(self.threads)
        weakref.finalize(self, threads.close).atexit = False
        rank = in_memory(
            self.recipe, self.network, self.tensors, world, batch=self.batch, threads=threads.count
        )
        return rank, Context(threads, training=False)


def _named(batch: Filled, scores: NDArray[Any], names: tuple[str, ...], top: int) -> Iterator[Prediction]:
    """Yield the predictions of a batch."""
    chosen = best(scores, top)
    values = np.take_along_axis(scores, chosen, axis=1).tolist()
    for place, (sample, classes) in enumerate(zip(batch.samples, chosen.tolist(), strict=True)):
        if place in batch.errors:
            yield Prediction(sample.name, error=batch.errors[place])
        elif not np.isfinite(scores[place]).all():
            error = DataError.at(sample.name, "what the network computes of it is not finite")
            yield Prediction(sample.name, error=str(error))
        else:
            yield Prediction(sample.name, tuple(names[each] for each in classes), tuple(values[place]))


def _as_array(x: ArrayLike) -> NDArray[Any]:
    """Return samples as an array; UserError where their rows differ in length."""
    try:
        return np.asarray(x)
    except (ValueError, TypeError) as error:
        raise UserError(f"model: got {type(x).__name__}, which is no array: {error}") from error


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
