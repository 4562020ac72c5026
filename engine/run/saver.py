"""What of a run is saved: its checkpoints, and which of them did best."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from comm.communicator import Communicator
from engine.config.files import sync, writing
from engine.config.recipe import Recipe
from engine.data.dataset import DataSource
from engine.data.readers.normalise import normalisation_of
from engine.run.checkpoint import TENSORS, State, save_checkpoint
from engine.run.kept_checkpoints import best_of, note_best
from engine.run.run_folder import METRICS
from engine.training.hashes import sha256_of
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


class Saver:
    """Saves one rank's part of a run; only rank 0 has a folder, and writes.

    Parameters
    ----------
    control
        For agreements of the main threads.
    """

    def __init__(self, rank: Rank, task: Task, control: Communicator, folder: Path | None):
        self._rank, self._task, self._control, self._folder = rank, task, control, folder
        self._written = 0
        self._best = -1.0

    def begin(self, step: int) -> None:
        """Begin at a step whose checkpoint is there, or at 0; learn how good the best one is (collective)."""
        self._written = step
        best = self._control.gather_objects(None if self._folder is None else best_of(self._folder))[0]
        if best is not None:
            self._best = best[1]

    def agreed_step(self) -> int:
        """Return the step of the newest checkpoint that rank 0 has written, or begun with (collective)."""
        written: int = self._control.gather_objects(self._written)[0]
        return written

    def gather(self) -> tuple[Tensors, Tensors]:
        """Return weights and velocities where there is a folder, nothing elsewhere (collective)."""
        keep = self._folder is not None
        velocities = self._rank.parameters.gather_velocities(keep=keep)
        return self._rank.parameters.gather_weights(keep=keep), velocities

    def write(
        self, step: int, epoch_loss: float | None, weights: Tensors, velocities: Tensors
    ) -> Path | None:
        """Write what `gather` has returned, on rank 0, and return the checkpoint.

        Raises
        ------
        UserError
            It cannot be written.
        """
        if self._folder is None:
            return None
        recipe, data = self._task.recipe, self._task.data
        text = recipe.to_toml()
        state = State(
            step,
            text,
            data.identity,
            self._task.code,
            normalisation_of(data.train),
            data.class_names,
            _working_folder(),
            epoch_loss,
            data.train.preprocessing,
            self._described_model(),
            TENSORS,
            sha256(text.encode()).hexdigest(),
            sha256_of(weights),
            self._task.model_code,
        )
        tensors = weights | self._rank.states.tensors()
        with writing(self._folder, "out"):
            if (self._folder / METRICS).exists():  # no line up to a checkpoint gets lost
                sync(self._folder / METRICS)
            folder = save_checkpoint(self._folder, state, tensors, velocities, keep=recipe.keep_checkpoints)
        self._written = step
        return folder

    def _described_model(self) -> dict[str, Any]:
        recipe, graph = self._task.recipe, self._rank.graph
        return {
            "name": recipe.model,
            "arguments": recipe.model_arguments,
            "input_shape": list(graph.input_shape),
            "outputs": graph.output_shape[0],
        }

    def is_best(self, accuracy: float) -> bool:
        """Say whether a test accuracy is better than all before; it is the best from now on."""
        is_better = accuracy > self._best
        self._best = max(self._best, accuracy)
        return is_better

    def note_best(self, step: int, accuracy: float) -> None:
        """Let the checkpoint of a step be kept as the best, if it was written; UserError if that fails."""
        if self._folder is not None and self._written == step:
            with writing(self._folder, "out"):
                note_best(self._folder, step, accuracy)


def _working_folder() -> str:
    """Return the folder that relative paths begin in; empty where it has been removed."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""
