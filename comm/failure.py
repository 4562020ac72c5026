"""Failures end all ranks within seconds, with a message that names the rank.

A rank that is interrupted (`engine.host.stop_signals` says when) ends all ranks with exit code 130, and
rank 0 prints `interrupted`.

A rank that calls sys.exit while others go on waits for them inside MPI_Finalize, perhaps for ever. So leave
by `fail`, or by sys.exit on all ranks after `agree`.
"""

import os
import sys
import threading
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from comm import terminal
from comm.losses import RankLostError

if TYPE_CHECKING:  # without numpy this module loads fast, before a Ctrl-C can come
    from comm.communicator import Communicator

INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C


def install(communicator: "Communicator") -> None:
    """Install exception hooks: an uncaught exception on any thread ends all ranks with exit code 1."""

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            if communicator.rank == 0:
                say_interrupted()
            communicator.abort(INTERRUPTED)
        abort_all(communicator, error.with_traceback(trace))

    def thread_excepthook(raised: threading.ExceptHookArgs) -> None:
        if raised.exc_value is not None and not issubclass(raised.exc_type, SystemExit):
            try:
                excepthook(raised.exc_type, raised.exc_value, raised.exc_traceback)
            except SystemExit:  # `abort` raises it with one rank; here it would end this thread only
                os._exit(1)

    sys.excepthook = excepthook
    threading.excepthook = thread_excepthook


def abort_all(communicator: "Communicator", error: BaseException) -> NoReturn:
    """Print an error's traceback with the rank on every line, and end all ranks with exit code 1."""
    if isinstance(error, RankLostError):  # one line will do, of each rank that is left
        say_error(f"rank {communicator.rank}: another rank has died")
        communicator.abort(1)
    prefix = f"rank {communicator.rank}: " if communicator.size > 1 else ""
    lines = "".join(traceback.format_exception(error)).splitlines()
    terminal.say("\n".join(prefix + line for line in lines))
    communicator.abort(1)


def abort_on_error(communicator: "Communicator") -> Callable[[BaseException], None]:
    """Return a hook for `CommThread`: the error of a failed job ends all ranks at once.

    With one rank the hook does nothing: no other rank waits, and `Request.wait` raises the error. Nor does a
    lost rank end the others, who learn of it at once, where they can go on: those who wait for others, too.
    """

    def hook(error: BaseException) -> None:
        if communicator.survives and isinstance(error, RankLostError):
            communicator.revoke()
        elif communicator.size > 1:
            abort_all(communicator, error)

    return hook


def fail(communicator: "Communicator", message: str, code: int = 2) -> NoReturn:
    """Print an error as one line and end all ranks with this exit code; for an error on one rank only."""
    say_error(message)
    communicator.abort(code)


def say_error(message: str) -> None:
    """Print an error to stderr as one line."""
    terminal.say(f"error: {' '.join(message.splitlines())}")


def say_interrupted() -> None:
    """Print `interrupted` to stderr: the user ended the program."""
    terminal.say("interrupted")


def agree(communicator: "Communicator", error: str | None) -> str | None:
    """Gather errors: return the message of the first rank that passes one, None if none does (collective)."""
    return next((each for each in communicator.gather_objects(error) if each is not None), None)
