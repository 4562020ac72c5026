"""Callbacks: what a user's own code sees of a run while it goes on, and how it ends one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comm import failure
from engine.config.errors import UserError
from engine.config.recipe import Recipe
from engine.config.user_code import no_exit
from engine.training.rank import Rank
from layers.kernels.float_mode import set_float_mode
from layers.layer import Array


@dataclass(frozen=True)
class Beginning:
    """What is known of a run when it begins, or goes on."""

    recipe: Recipe
    step: int
    """After which it begins: 0 for a new run."""
    folder: Path | None
    """Of the run, on rank 0; None on the others."""
    warn: Callable[[str], None]
    """Prints a warning on rank 0, and keeps it for `run.json`; from any thread."""
    say: Callable[[str], None]
    """Prints a line on rank 0; from any thread."""


class RunView:
    """A run as a callback sees it, while it goes on."""

    def __init__(self, rank: Rank, beginning: Beginning | None = None):
        self._rank, self._beginning = rank, beginning
        self.stopped = False

    @property
    def beginning(self) -> Beginning:
        """The recipe, and where and after which step the run has begun."""
        assert self._beginning is not None  # without one there is no callback
        return self._beginning

    @property
    def ranks(self) -> int:
        """Number of ranks."""
        return self._rank.grid.world.communicator.size

    @property
    def rank(self) -> int:
        """Number of this rank; callbacks are called on all ranks."""
        return self._rank.grid.world.communicator.rank

    def stop(self) -> None:
        """End the run after the next step, with a checkpoint, as Ctrl-C does; one rank's call is enough."""
        self.stopped = True

    def weights(self) -> dict[str, Array]:
        """Return copies of all weights in standard layout by name (collective: call it on all ranks).

        With `ema` they are the averages, as everywhere outside the training itself.
        """
        set_float_mode()
        self._rank.parameters.wait()
        with self._rank.averaged():
            return self._rank.parameters.gather_weights()


class Callback:
    """Override what you need; all are called on every rank, between steps.

    With one rank, `train` raises the error that a callback raises. With several it ends them all, with its
    traceback, because the others wait for this one; a UserError does so in one line, with exit code 2.
    """

    def on_begin(self, run: RunView) -> None:
        """See a run before its first step, or before it goes on; `run.beginning` says with what."""

    def on_step(self, run: RunView, record: Mapping[str, Any]) -> None:
        """See a step that is done; `record` is its line of `metrics.jsonl`."""

    def on_epoch(self, run: RunView, record: Mapping[str, Any]) -> None:
        """See an evaluation, at the end of an epoch or of the run.

        Parameters
        ----------
        record
            Its `epoch`, `step`, `final_loss`, `test_loss` and `test_accuracy`; the last two are None without
            test data.
        """

    def on_checkpoint(self, run: RunView, folder: Path | None) -> None:
        """See a checkpoint that is whole, some steps after its own.

        Its folder is known on rank 0, None on the others.
        """

    def on_end(self, run: RunView, results: Mapping[str, Any]) -> None:
        """See the end of a run, done or interrupted; `results` is the content of `run.json`."""

    def close(self) -> None:
        """Let go of what the callback holds: called last, also where a run ends with an error.

        It must not wait for other ranks.
        """


class Callbacks:
    """All callbacks of a run, called one after the other."""

    def __init__(self, callbacks: Sequence[Callback], rank: Rank, beginning: Beginning | None = None):
        self._callbacks, self._view = tuple(callbacks), RunView(rank, beginning)
        self._world = rank.grid.world.communicator

    @property
    def stopped(self) -> bool:
        """Whether a callback has stopped the run."""
        return self._view.stopped

    def on_begin(self) -> None:
        """Tell all callbacks of a run that begins."""
        with self._failing_together():
            for callback in self._callbacks:
                callback.on_begin(self._view)

    def on_step(self, record: Mapping[str, Any]) -> None:
        """Tell all callbacks of a step."""
        with self._failing_together():
            for callback in self._callbacks:
                callback.on_step(self._view, record)

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        """Tell all callbacks of an evaluation."""
        with self._failing_together():
            for callback in self._callbacks:
                callback.on_epoch(self._view, record)

    def on_checkpoint(self, folder: Path | None) -> None:
        """Tell all callbacks of a checkpoint."""
        with self._failing_together():
            for callback in self._callbacks:
                callback.on_checkpoint(self._view, folder)

    def on_end(self, results: Mapping[str, Any]) -> None:
        """Tell all callbacks of the end."""
        with self._failing_together():
            for callback in self._callbacks:
                callback.on_end(self._view, results)

    def close(self) -> None:
        """Close all callbacks."""
        with self._failing_together():
            for callback in self._callbacks:
                callback.close()

    @contextmanager
    def _failing_together(self) -> Iterator[None]:
        """End all ranks if one of several fails: a program that caught the error would leave them waiting."""
        try:
            with no_exit("callback"):
                yield
        except UserError:  # answered by who runs the training
            raise
        except Exception as error:
            if self._world.size > 1:
                failure.abort_all(self._world, error)
            raise
        finally:
            set_float_mode()  # the user's code may have loaded a library that changes it
