"""Simulated time: what happens when, and cores that threads share."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import final

_SHORT_S = 1e-12  # what rounding leaves of work that is done


@final
class Events:
    """A clock that moves from one event to the next."""

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds since the start."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def clock(self) -> float:
        """Return the time, in seconds."""
        return self.now

    def at(self, moment: float, do: Callable[[], None]) -> None:
        """Do something at a time; of the same time, first come is first served."""
        heapq.heappush(self._events, (moment, next(self._order), do))

    def run(self) -> None:
        """Let everything happen."""
        while self._events:
            self.now, _, do = heapq.heappop(self._events)
            do()


@dataclass
class _Work:
    left_s: float
    threads: float
    then: Callable[[], None]


@final
class Cores:
    """The cores of one machine, shared evenly by all threads that want one.

    Parameters
    ----------
    copies
        How many ranks each simulated one stands for.
    """

    def __init__(self, events: Events, cores: int, copies: int):
        self._events, self._cores, self._copies = events, cores, copies
        self._works: list[_Work] = []
        self._since, self._plans = 0.0, 0

    def start(self, seconds: float, threads: float, then: Callable[[], None]) -> None:
        """Do work that takes so many seconds on cores of its own."""
        self._advance()
        self._works.append(_Work(seconds, threads, then))
        self._plan()

    def _pace(self) -> float:
        wanted = self._copies * sum(work.threads for work in self._works)
        return min(1.0, self._cores / wanted) if wanted else 1.0

    def _advance(self) -> None:
        passed = (self._events.now - self._since) * self._pace()
        self._since = self._events.now
        for work in self._works:
            work.left_s -= passed

    def _plan(self) -> None:
        """See when the next work will be done; what has been seen before holds no more."""
        self._plans += 1
        if self._works:
            soonest = min(work.left_s for work in self._works)
            done = self._events.now + max(soonest, 0.0) / self._pace()
            self._events.at(done, partial(self._finish, self._plans))

    def _finish(self, plan: int) -> None:
        if plan != self._plans:
            return
        self._advance()
        done = [work for work in self._works if work.left_s <= _SHORT_S]
        self._works = [work for work in self._works if work.left_s > _SHORT_S]
        self._plan()
        for work in done:
            work.then()
