"""Discrete-event simulation: a clock with an event queue, and cores that threads share."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import final

_DONE_S = 1e-12  # work left that is no more than a rounding error


@final
class EventQueue:
    """A clock that jumps from one event to the next.

    Ours, not a library's: a heap and a counter are all that the simulation needs.
    """

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds since the start of the simulation."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def clock(self) -> float:
        """Return the simulated time in seconds."""
        return self.now

    def at(self, moment: float, do: Callable[[], None]) -> None:
        """Call a function at a time; simultaneous calls run in the order in which they were scheduled."""
        heapq.heappush(self._events, (moment, next(self._order), do))

    def run(self) -> None:
        """Run events, and those that they schedule, until none is left."""
        while self._events:
            self.now, _, do = heapq.heappop(self._events)
            do()


@dataclass(slots=True)
class _Work:
    left_s: float
    """Seconds that it still takes at full pace."""
    threads: float
    then: Callable[[], None]


@final
class SharedCores:
    """The cores of one machine: where threads outnumber them, all work slows down evenly.

    Parameters
    ----------
    copies
        Ranks of this machine for which each simulated one stands.
    """

    def __init__(self, events: EventQueue, cores: int, copies: int):
        self._events, self._cores, self._copies = events, cores, copies
        self._works: list[_Work] = []
        self._since, self._version = 0.0, 0  # the last update of `left_s`; the last planned finish

    def start(self, seconds: float, threads: float, then: Callable[[], None]) -> None:
        """Start work that takes `seconds` on cores of its own; call `then` at its end."""
        self._advance()
        self._works.append(_Work(seconds, threads, then))
        self._plan_finish()

    def _pace(self) -> float:
        """Return simulated work per second: 1 while every thread has a core."""
        wanted = self._copies * sum(work.threads for work in self._works)
        return min(1.0, self._cores / wanted) if wanted else 1.0

    def _advance(self) -> None:
        """Bring all work up to now."""
        passed = (self._events.now - self._since) * self._pace()
        self._since = self._events.now
        for work in self._works:
            work.left_s -= passed

    def _plan_finish(self) -> None:
        """Schedule the end of the work that ends first, which voids what was scheduled at another pace."""
        self._version += 1
        if self._works:
            soonest = min(work.left_s for work in self._works)
            done = self._events.now + max(soonest, 0.0) / self._pace()
            self._events.at(done, partial(self._finish, self._version))

    def _finish(self, version: int) -> None:
        if version != self._version:
            return
        self._advance()
        done = [work for work in self._works if work.left_s <= _DONE_S]
        self._works = [work for work in self._works if work.left_s > _DONE_S]
        self._plan_finish()
        for work in done:
            work.then()
