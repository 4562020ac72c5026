"""How far a long work is, said now and then."""

import time
from collections.abc import Callable

_PROGRESS_S = 5.0

Say = Callable[[str], None]


class Progress:
    """Says now and then how far the work is."""

    def __init__(self, say: Say, what: str, total: int):
        self._say, self._what, self._total = say, what, total
        self._done, self._start = 0, time.monotonic()
        self._last = self._start

    def step(self) -> None:
        """Count one sample."""
        self._done += 1
        now = time.monotonic()
        if now - self._last > _PROGRESS_S:
            self._last = now
            rate = self._done / (now - self._start)
            left = (self._total - self._done) / rate
            self._say(
                f"{self._what} {self._done:,} of {self._total:,}, {rate:,.0f} samples/s, {left:,.0f} s left"
            )
