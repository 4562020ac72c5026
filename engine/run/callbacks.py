"""Callbacks: what a user's own code sees of a run while it goes on, and how it ends one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from comm import failure
from engine.config.errors import UserError
from engine.config.user_code import no_exit
from engine.training.rank import Rank
from layers.kernels.float_mode import set_float_mode
from layers.layer import Array


class RunView:
    """A run as a callback sees it, while it goes on."""

    def __init__(self, rank: Rank):
        self._rank = rank
        self.stopped = False

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


class Callbacks:
    """All callbacks of a run, called one after the other."""

    def __init__(self, callbacks: Sequence[Callback], rank: Rank):
        self._callbacks, self._view = tuple(callbacks), RunView(rank)
        self._world = rank.grid.world.communicator

    @property
    def stopped(self) -> bool:
        """Whether a callback has stopped the run."""
        return self._view.stopped

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
