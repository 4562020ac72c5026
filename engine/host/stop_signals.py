"""Turn Ctrl-C and SIGTERM into a stop request that the training loop polls between steps."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopRequest:
    """Whether a signal has asked this rank to stop."""

    made: bool = False


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Let the first SIGINT or SIGTERM set the stop request; a second one raises KeyboardInterrupt.

    Off the main thread (ranks as threads) signals are left alone.
    """
    request = StopRequest()

    def answer(_number: int, _frame: FrameType | None) -> None:
        if request.made:
            raise KeyboardInterrupt
        request.made = True

    try:
        old = {number: signal.signal(number, answer) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # signals belong to the main thread
        yield request
        return
    try:
        yield request
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
