"""What of a run is saved: its checkpoints, and which of them did best."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from comm.communicator import Communicator
from engine.config.files import sync, writing
from engine.config.paths import working_folder
from engine.config.recipe import Recipe
from engine.data.dataset import DataSource
from engine.data.readers.normalise import normalisation_of
from engine.run.best import Best
from engine.run.checkpoint import note_best_evaluation, save_checkpoint
from engine.run.kept_checkpoints import best_of, checkpoint_folder, note_best
from engine.run.run_folder import METRICS
from engine.run.state import TENSORS, State
from engine.training.hashes import sha256_of
from engine.training.parameters import TRAINED
from engine.training.rank import Rank
from layers.layer import Array

Tensors = dict[str, Array]


@dataclass(frozen=True)
class Task:
    """What is trained, as checkpoints describe it."""

    recipe: Recipe
    data: DataSource
    code: str = ""
    """Hash of the user's own files, as they were when the run began; empty without any."""
    model_code: str = ""
    """The same of the model's alone."""
    init: str = ""
    """Hash of the weights that the run began with; empty where all were drawn."""
    history: tuple[dict[str, Any], ...] = ()
    """What was changed when the run went on."""
    notes: tuple[str, ...] = ()
    """What the user is told of it when the run begins."""
    started_in: str = field(default_factory=working_folder)
    """Where relative paths in the recipe begin."""


class Saver:
    """Saves one rank's part of a run; only rank 0 has a folder, and writes.

    Parameters
    ----------
    control
        For agreements of the main threads.
    check_folder
        Raises UserError where the folder is another run's by now.
    """

    def __init__(
        self,
        rank: Rank,
        task: Task,
        control: Communicator,
        folder: Path | None,
        *,
        check_folder: Callable[[], None],
    ):
        self._rank, self._task, self._control, self._folder = rank, task, control, folder
        self._check_folder = check_folder
        self._written = 0

    def begin(self, step: int) -> None:
        """Begin at a step whose checkpoint is there, or at 0."""
        self._written = step

    def agreed_best(self) -> Best | None:
        """Return the checkpoint that is noted as the best one in the run's folder (collective)."""
        noted = None if self._folder is None else best_of(self._folder)
        best: Best | None = self._control.gather_objects(noted)[0]
        return best

    def agreed_step(self) -> int:
        """Return the step of the newest checkpoint that rank 0 has written, or begun with (collective)."""
        written: int = self._control.gather_objects(self._written)[0]
        return written

    def gather(self) -> tuple[Tensors, Tensors]:
        """Return the model and the optimizer's tensors where there is a folder (collective).

        The model is what is used afterwards: weights and state, or their averages where the recipe asks for
        them; weights and state that are trained then go with the optimizer, for a run that goes on.
        """
        keep, parameters, states = self._folder is not None, self._rank.parameters, self._rank.states
        optimizer = parameters.gather_moments(keep=keep) | parameters.gather_trained(keep=keep)
        if self._rank.settings.ema:
            optimizer |= {f"{TRAINED}{name}": array for name, array in states.tensors().items()}
        with self._rank.averaged():
            return parameters.gather_weights(keep=keep) | states.tensors(), optimizer

    def write(
        self,
        step: int,
        epoch_loss: float | None,
        best: Best | None,
        model: Tensors,
        optimizer: Tensors,
    ) -> Path | None:
        """Write what `gather` has returned, on rank 0, and return the checkpoint.

        Raises
        ------
        UserError
            It cannot be written.
        """
        if self._folder is None:
            return None
        recipe, data, states = self._task.recipe, self._task.data, self._rank.states.tensors()
        text = recipe.to_toml()
        state = State(
            step,
            text,
            data.identity,
            self._task.code,
            normalisation_of(data.train),
            data.class_names,
            self._task.started_in,
            epoch_loss,
            init=self._task.init,
            history=self._task.history,
            best=best,
            preprocessing=data.train.preprocessing,
            model=self._described_model(),
            tensors=TENSORS,
            recipe_sha256=sha256(text.encode()).hexdigest(),
            weights_sha256=sha256_of({name: model[name] for name in model if name not in states}),
            model_code=self._task.model_code,
            test_data=data.test_identity,
        )
        with self._writing(self._folder):
            if (self._folder / METRICS).exists():  # no line up to a checkpoint gets lost
                sync(self._folder / METRICS)
            folder = save_checkpoint(self._folder, state, model, optimizer, keep=recipe.keep_checkpoints)
        self._written = step
        return folder

    @contextmanager
    def _writing(self, folder: Path) -> Iterator[None]:
        """Let what fails be a UserError; nothing is written to a folder that is another run's."""
        self._check_folder()
        with writing(folder, "out"):
            yield

    def _described_model(self) -> dict[str, Any]:
        recipe, graph = self._task.recipe, self._rank.graph
        return {
            "name": recipe.model,
            "arguments": recipe.model_arguments,
            "input_shape": list(graph.input_shape),
            "outputs": graph.output_shape[0],
        }

    def note_evaluation(self, step: int, best: Best | None) -> None:
        """Write the best evaluation into the checkpoint of a step, if that was written before the step's own.

        Raises
        ------
        UserError
            It cannot be written.
        """
        if self._folder is not None and self._written == step:
            with self._writing(self._folder):
                note_best_evaluation(checkpoint_folder(self._folder, step), best)

    def note_best(self, best: Best | None) -> None:
        """Let the newest checkpoint be kept if it is the best and the recipe says so; UserError if not."""
        if self._folder is None or best is None or best.step != self._written:
            return
        if self._task.recipe.keeps_best:
            with self._writing(self._folder):
                note_best(self._folder, best)
