"""A limit to the time that MPI takes to start, at which the process ends.

Where ranks go on without others, Open MPI's MPI_Init waits for ever for a rank that has died before it came
there. It holds the interpreter's lock meanwhile, so no thread of Python's could notice.
"""

import faulthandler
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from comm.terminal import write_now

START_S = 120.0
"""Longer than ranks take to load Python from a slow file system."""
_TO_SAY_S = 0.5


@contextmanager
def start_limit(rank: int, seconds: float | None = None) -> Iterator[None]:
    """End this process, exit code 1, where the `with` takes longer, START_S unless given; rank 0 says why."""
    limit = START_S if seconds is None else seconds
    with Path(os.devnull).open("w", encoding="ascii") as nowhere:  # where it would write its traceback
        faulthandler.dump_traceback_later(limit + _TO_SAY_S, exit=True, file=nowhere)
        try:
            if rank == 0:
                with _saying(limit):
                    yield
            else:
                yield
        finally:
            faulthandler.cancel_dump_traceback_later()


@contextmanager
def _saying(seconds: float) -> Iterator[None]:
    """Have another process say it, which ends with the `with` or this process."""
    ends, stays = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(stays)
        _wait(ends, seconds)
    os.close(ends)
    try:
        yield
    finally:
        os.close(stays)  # which the child sees
        os.waitpid(child, 0)


def _wait(pipe: int, seconds: float) -> None:
    """Speak unless the other end of a pipe is closed in time; end this process."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)  # they are for the other process, whose end is seen
        is_over, _, _ = select.select([pipe], [], [], seconds)
        if not is_over:
            why = f"MPI has not started on all ranks after {seconds:.0f} s: one has died before"
            write_now(f"error: {why}\n")
    finally:
        os._exit(0)
