"""Trained networks in use: `lockstep.load`, and the `Model` that it returns."""

import os
import weakref
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.grid import Grid
from comm.threads import single_rank
from comm.tree import Tree
from engine.config.errors import UserError
from engine.config.paths import expand
from engine.config.recipe import Recipe, parse_recipe
from engine.data.loader import Batch
from engine.data.readers.normalise import Normalisation
from engine.graph import Graph
from engine.graph.parallel.plan import Plan
from engine.models import build_model
from engine.run.checkpoint import find_checkpoint, read_state, read_tensors
from engine.training.rank import Rank, build_rank
from engine.training.rank_settings import settings_of
from engine.training.step import forward
from layers.kernels.threads import Threads
from layers.layer import Array, Context
from layers.layout import from_blocked

BATCH = 32
"""Samples that go through the network at once, unless `load` is told otherwise."""


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network; call it with samples, from one thread at a time.

    Its kernel threads and buffers are made in the first call, and freed with it.
    """

    recipe: Recipe
    """What it was trained by."""
    step: int
    """Steps that it was trained for."""
    network: Graph = field(repr=False)
    tensors: dict[str, Array] = field(repr=False)
    """Weights, state and velocities by name, float32 in standard layout."""
    normalisation: Normalisation | None
    """From the pixels of its data to its input; None where the data had none."""
    batch: int
    threads: int
    class_names: tuple[str, ...]
    """What the logits stand for, in their order; empty in checkpoints of earlier versions."""

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
        samples = self._preprocessed(x) if preprocess else np.asarray(x)
        wanted = self.network.input_shape
        if samples.shape[1:] != wanted or samples.dtype.kind != "f":
            raise UserError(
                f"model: got {samples.dtype} {list(samples.shape)}; must be float32 [N, {_listed(wanted)}]"
                f"{', or uint8 with preprocess=True' if samples.dtype == np.uint8 else ''}"
            )
        parts = [
            self._logits(samples[first : first + self.batch]) for first in range(0, len(samples), self.batch)
        ]
        (classes,) = self.network.output_shape
        return np.concatenate(parts) if parts else np.empty((0, classes), np.float32)

    def _logits(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        full = np.zeros((self.batch, *self.network.input_shape), np.float32)
        full[: len(samples)] = samples
        absent = np.full(self.batch, -1)
        rank, run = self._rank
        forward(rank, Batch(full, absent.astype(np.int32), absent, epoch=0), run)
        return from_blocked(rank.memory.output, self.network.output_shape)[: len(samples)]

    def _preprocessed(self, x: ArrayLike) -> NDArray[np.float32]:
        pixels, wanted = np.asarray(x), self.network.input_shape
        if self.normalisation is None:
            raise UserError(f"model: {self.recipe.data} has no preprocessing; give what the network reads")
        if pixels.dtype != np.uint8 or pixels.shape[1:] != wanted:
            raise UserError(
                f"model: got {pixels.dtype} {list(pixels.shape)}; with preprocess must be uint8 "
                f"[N, {_listed(wanted)}]"
            )
        samples = np.empty(pixels.shape, np.float32)
        for image, sample in zip(pixels, samples, strict=True):
            self.normalisation.apply(image, sample)
        return samples

    @cached_property
    def _rank(self) -> tuple[Rank, Context]:
        """The network with its memory, on this process alone."""
        queue, plan = InlineCommThread(), Plan()
        grid = Grid.of(Collectives(single_rank(), Tree.of(1, 1)), plan.parts)
        settings = replace(settings_of(self.recipe, self.threads), batch=self.batch)
        rank = build_rank(self.network, settings, plan, grid, queue)
        rank.parameters.restore(self.tensors)
        rank.states.restore(self.tensors)
        threads = Threads(self.threads)
        weakref.finalize(self, threads.close).atexit = False
        return rank, Context(threads, training=False)


def load(checkpoint: str | Path, *, batch: int = BATCH, threads: int = 0) -> Model:
    """Return the trained network of a checkpoint, or of the newest one of a run's folder.

    Parameters
    ----------
    batch
        Samples that go through the network at once.
    threads
        Kernel threads; 0: as many as this process has cores.

    Raises
    ------
    UserError
        There is no checkpoint, it cannot be read, or it holds another network.
    """
    folder = find_checkpoint(expand(str(checkpoint), "checkpoint"))
    state = read_state(folder)
    recipe = parse_recipe(state.recipe, str(folder))
    network = build_model(recipe.model, recipe.model_arguments)
    return Model(
        recipe,
        state.step,
        network,
        read_tensors(folder, network),
        None if state.normalisation is None else Normalisation.from_json(state.normalisation),
        max(1, batch),
        threads or len(os.sched_getaffinity(0)),
        state.class_names,
    )


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
