"""What of a run is saved: its checkpoints, and which of them did best.

The step that asks for a checkpoint waits for a copy of it. The copy is written, and what is noted of it
afterwards, while training goes on; the next checkpoint, and the end of the run, wait until that is done.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
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
from engine.run.writer import AbandonedError, Write, Writer
from engine.training.hashes import sha256_of
from engine.training.held import Copy, Held, Tensors, made
from engine.training.rank import Rank
from layers.layer import Array
from layers.precision import stated


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


@dataclass
class SavingTimes:
    """What checkpoints have cost a rank, in seconds."""

    count: int = 0
    held_up: float = 0.0
    """Training, by all of them: the copies, and the waits for the one before."""
    waited: float = 0.0
    """For the one before, of that."""
    written: float = 0.0
    """The thread that writes; 0 on ranks without a folder."""


class Saver:
    """Saves one rank's part of a run; only rank 0 has a folder, and writes.

    Parameters
    ----------
    control
        For agreements of the main threads.
    check_folder
        Raises UserError where the folder is another run's by now, and OSError where it is not there.
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
        self._copy = Copy(keep=folder is not None)
        self._writer = Writer(lambda _: None, lambda _: None)
        self._handed: int | None = None
        """Step of the newest checkpoint, until all ranks know that it is whole; the same on all ranks."""
        self._whole = list[int]()
        """Steps of checkpoints that are whole, of which the ranks do not know yet."""
        self.times = SavingTimes()

    @contextmanager
    def saving(self, step: int, *, warn: Callable[[str], None], say: Callable[[str], None]) -> Iterator[None]:
        """Save inside the `with`; begin at a step whose checkpoint is there, or at 0.

        What is being written when it ends is finished, unless the process is told to end at once.

        Parameters
        ----------
        warn, say
            Told of a disk that fails, and of one that works again.
        """
        self._written, self._writer = step, Writer(warn, say)
        try:
            yield
        except Exception:
            self._writer.drain()
            self._writer.close()
            raise
        except BaseException:
            self._writer.close(abandon=True)
            raise
        self._writer.close()

    @property
    def failure(self) -> BaseException | None:
        """What the run has to end with; a disk that fails is tried again."""
        return self._writer.failure

    def agreed_best(self) -> Best | None:
        """Return the checkpoint that is noted as the best one in the run's folder (collective)."""
        noted = None if self._folder is None else best_of(self._folder)
        best: Best | None = self._control.gather_objects(noted)[0]
        return best

    def agreed_step(self) -> int:
        """Return the step of the newest checkpoint that is whole, or that rank 0 has begun with (collective).

        It waits for the one that is being written.
        """
        self._writer.drain()
        written: int = self._control.gather_objects(self._written)[0]
        return written

    def drain(self) -> None:
        """Wait until all is written.

        Raises
        ------
        UserError
            The disk refuses it.
        """
        refusal = self._writer.drain()
        if refusal is not None and self._folder is not None:
            with writing(self._folder, "out"):
                raise refusal

    def agree_on_whole(self) -> list[Path | None]:
        """Return the checkpoints that have become whole (collective while there may be any, else empty).

        Their folders are known on rank 0, None on the others.
        """
        if self._handed is None:
            return []
        steps: list[int] = self._control.gather_objects(list(self._whole))[0]
        if self._handed in steps:
            self._handed = None
        if self._folder is None:
            return [None] * len(steps)
        del self._whole[: len(steps)]
        return [checkpoint_folder(self._folder, step) for step in steps]

    def wait_for_room(self) -> None:
        """Wait until the copy that is being written is not needed any more."""
        started = time.perf_counter()
        self._writer.make_room()
        self.times.waited += time.perf_counter() - started

    def save(self, step: int, epoch_loss: float | None, best: Best | None) -> None:
        """Copy what a checkpoint holds, and have it written (collective); `wait_for_room` comes before."""
        model, optimizer = self._copied()
        self._handed = step
        self.times.count += 1
        if self._folder is None:
            return
        recipe, data = self._task.recipe, self._task.data
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
            model_code=self._task.model_code,
            test_data=data.test_identity,
        )
        work = partial(self._write, self._folder, state, model, optimizer)
        self._put(f"the checkpoint of step {step}", work, is_replaceable=True)

    def _copied(self) -> tuple[Tensors, Tensors]:
        """Copy the model and the optimizer's tensors (collective); empty where there is no folder.

        The model is what is used afterwards: weights and state, or their averages where the recipe asks for
        them; weights and state that are trained then go with the optimizer, for a run that goes on.
        """
        copy, parameters = self._copy, self._rank.parameters
        state, trained = self._rank.states.saved()
        optimizer = parameters.copy_moments(copy) | parameters.copy_trained(copy) | trained
        with parameters.averaged():
            return parameters.copy_weights(copy) | state, optimizer

    def _write(self, folder: Path, state: State, model: Tensors, optimizer: Tensors) -> None:
        """Write a checkpoint, on the writer's thread."""
        started = time.perf_counter()
        states = self._rank.states.names
        if (folder / METRICS).exists():  # no line up to a checkpoint gets lost
            sync(folder / METRICS)
        model, optimizer = self._abandonable(model), self._abandonable(optimizer)
        weights = {name: tensor for name, tensor in model.items() if name not in states}
        state = replace(state, weights_sha256=sha256_of(weights))
        save_checkpoint(folder, state, model, optimizer, keep=self._task.recipe.keep_checkpoints)
        self._written = state.step
        self._whole.append(state.step)
        self.times.written += time.perf_counter() - started

    def _abandonable(self, tensors: Tensors) -> Tensors:
        """Return tensors that cannot be had any more when the process is told to end at once."""

        def make(tensor: Array | Held) -> Array:
            if self._writer.is_abandoned:
                raise AbandonedError
            return made(tensor)

        return {name: Held(tensor.shape, partial(make, tensor)) for name, tensor in tensors.items()}

    def _put(self, name: str, work: Callable[[], None], *, is_replaceable: bool = False) -> None:
        """Have something written; nothing is written to a folder that is another run's."""

        def checked() -> None:
            self._check_folder()
            work()

        self._writer.put(Write(name, checked, is_replaceable=is_replaceable))

    def _described_model(self) -> dict[str, Any]:
        recipe, graph = self._task.recipe, self._rank.graph
        return {
            "name": recipe.model,
            "arguments": recipe.model_arguments,
            "input_shape": list(graph.input_shape),
            "outputs": graph.output_shape[0],
            **stated(recipe.precision),
        }

    def note_evaluation(self, step: int, best: Best | None) -> None:
        """Write the best evaluation into the checkpoint of a step, if there is one."""
        if self._folder is None:
            return
        checkpoint = checkpoint_folder(self._folder, step)

        def note() -> None:
            if self._written == step:
                note_best_evaluation(checkpoint, best)

        self._put(f"the evaluation of step {step}", note)

    def note_best(self, best: Best | None) -> None:
        """Let the newest checkpoint be kept if it is the best and the recipe says so."""
        folder = self._folder
        if folder is None or best is None or not self._task.recipe.keeps_best:
            return

        def note() -> None:
            if best.step == self._written:
                note_best(folder, best)

        self._put(f"the best checkpoint, of step {best.step},", note)
