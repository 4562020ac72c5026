"""How a job ends when something goes wrong: on all ranks, within seconds, with words that name the rank.

Ctrl-C goes to mpirun (or srun), which ends its processes itself with SIGTERM; a rank has no handler for that
and dies without a word. A rank that is interrupted itself, because it is alone or because the terminal
signals every process, ends the job with exit code 130, and rank 0 says `interrupted`.

A rank that leaves by sys.exit on its own waits for the others inside MPI_Finalize, perhaps for ever: leave by
`fail`, or by sys.exit on all ranks after `agree`.
"""

import os
import sys
import threading
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:  # light enough to be there before anything can be interrupted
    from comm.communicator import Communicator

INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C


def install(communicator: "Communicator") -> None:
    """Make an uncaught exception, on any thread of any rank, end the whole job with exit code 1."""

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
            except SystemExit:  # from `abort` with one rank: here it would only end the thread
                os._exit(1)

    sys.excepthook = excepthook
    threading.excepthook = thread_excepthook


def abort_all(communicator: "Communicator", error: BaseException) -> NoReturn:
    """Print an error's traceback with the rank on every line, and end the whole job with exit code 1."""
    prefix = f"rank {communicator.rank}: " if communicator.size > 1 else ""
    lines = "".join(traceback.format_exception(error)).splitlines()
    try:
        _say("\n".join(prefix + line for line in lines))
    finally:  # also where nobody reads stderr any more
        communicator.abort(1)


def abort_on_error(communicator: "Communicator") -> Callable[[BaseException], None]:
    """Make the hook of a communication thread: a failed job ends all ranks at once.

    One rank alone keeps nobody waiting: there the hook does nothing, and `Request.wait` raises the error.
    """

    def hook(error: BaseException) -> None:
        if communicator.size > 1:
            abort_all(communicator, error)

    return hook


def fail(communicator: "Communicator", message: str, code: int = 2) -> NoReturn:
    """Print one line and end the whole job with this exit code; for an error that one rank has found."""
    say_error(message)
    communicator.abort(code)


def say_error(message: str) -> None:
    """Write an error to stderr as one line."""
    _say(f"error: {' '.join(message.splitlines())}")


def say_interrupted() -> None:
    """Write to stderr that the user ended the job."""
    _say("interrupted")


def discard_stdout() -> None:
    """Write to nobody from now on: who read the output has gone, and Python would try again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def agree(communicator: "Communicator", error: str | None) -> str | None:
    """Give this rank's error, if any; get that of the first rank that has one (collective)."""
    return next((each for each in communicator.gather_objects(error) if each is not None), None)


def _say(text: str) -> None:
    """Write to stderr in one piece, so that lines of several ranks do not mix."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
