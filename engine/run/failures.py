"""What fails in the middle of a run: kept until all ranks have saved together, then said once.

A rank that cannot go on (a damaged image, a full disk) may not simply stop: the others would wait for it, and
the steps since the last checkpoint would be lost. It takes part in the step that the others are in, and its
wish to end travels with the loss, as Ctrl-C does. What fails inside a step is not kept: it ends all at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from comm.communicator import Communicator
from comm.losses import RankLostError
from engine.config.errors import UserError, in_one_line


class RunEndedError(UserError):
    """The error with which all ranks end a run, each with the same message."""


class Failures:
    """The first failure of this rank, if there is one."""

    def __init__(self, control: Communicator):
        self._control = control
        self.first: Exception | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep an exception for later, and go on behind the `with`."""
        try:
            yield
        except Exception as error:
            self.keep(error)

    def keep(self, error: BaseException | None) -> None:
        """Keep an exception, if one came; a lost rank, or what is no program's error, is raised as it is."""
        if error is None:
            return
        if not isinstance(error, Exception) or isinstance(error, RankLostError):
            raise error
        self.first = self.first or error

    def agreed(self) -> str | None:
        """Return the message of the first rank that has failed; None if none has (collective)."""
        return next(filter(None, self._control.gather_objects(self._message())), None)

    def end(self, message: str) -> NoReturn:
        """Raise what ends this rank: the agreed message, or a mistake in a program as it came."""
        if self.first is not None and in_words(self.first) is None:
            raise self.first
        raise RunEndedError(message) from self.first

    def _message(self) -> str | None:
        if self.first is None:
            return None
        rank = f"rank {self._control.rank}: " if self._control.size > 1 else ""
        return in_words(self.first) or f"{rank}{type(self.first).__name__}: {self.first}"


def in_words(error: BaseException) -> str | None:
    """Return what a user is told of an error; None where it is a mistake in a program."""
    match error:
        case UserError():
            return str(error)
        case MemoryError():
            return f"{in_one_line(error)}; lower --batch, or use more ranks"
        case OSError():
            return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return None
