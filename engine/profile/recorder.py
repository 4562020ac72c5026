"""Record where one rank's time goes: sums over its steps always, every span only for a trace."""

import threading
import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

K = TypeVar("K")

COMPUTE, COMMUNICATION, WAITS, DATA = ROWS = ("compute", "communication", "waits", "data")
"""Rows of a rank: the main thread at work, the communication thread, the main thread waiting, the reader."""

UPDATE = "update"
STEP, PASS, LAYER, FOR_DATA = "step", "pass", "layer", "for_data"  # attributes by which spans are told apart
DATA_WAIT = "wait for data"
KIND, ROUND = "kind", "exchange"  # of the spans of a queue: one round of messages, not its whole job

WARM_STEPS = 3  # compile and touch memory for the first time: no part of any mean or median
MOST_SPANS = 1_000_000  # of a rank; some hundred bytes each


@dataclass(frozen=True)
class Span:
    """One thing that a thread did, from `start` to `end` in seconds of its rank's `time.perf_counter`."""

    name: str
    row: str
    start: float
    end: float
    attributes: Mapping[str, object] = field(default_factory=dict)


@dataclass
class StepSums:
    """Seconds of one rank, summed over some steps; of `wall`, what no other field explains is the rest."""

    steps: int = 0
    wall: float = 0.0
    compute: dict[str, float] = field(default_factory=dict)
    """Main thread at work, by pass; UPDATE too where the main thread does it."""
    waits: dict[str, float] = field(default_factory=dict)
    """Main thread held up by communication, by the name of the job."""
    data: float = 0.0
    """Main thread held up by the reader of the data."""
    busy: "array[float]" = field(default_factory=lambda: array("d"), compare=False)
    """Of each step, what the main thread was not held up by communication: by it slower ranks are told."""
    layers: dict[tuple[str, str], float] = field(default_factory=dict)
    """Main thread at work, by layer and pass."""

    def add(self, other: "StepSums", sign: int = 1) -> None:
        """Add the sums of other steps, or subtract them with `sign` -1."""
        self.steps += sign * other.steps
        self.wall += sign * other.wall
        self.data += sign * other.data
        if sign > 0:
            self.busy.extend(other.busy)
        else:  # the first steps
            del self.busy[: len(other.busy)]
        _add(self.compute, other.compute, sign)
        _add(self.waits, other.waits, sign)
        _add(self.layers, other.layers, sign)


def _add(mine: dict[K, float], theirs: Mapping[K, float], sign: int) -> None:
    for name, seconds in theirs.items():
        mine[name] = mine.get(name, 0.0) + sign * seconds


def warm_steps(steps: int) -> int:
    """Return how many of the first steps are left out of means and medians: never all."""
    return min(WARM_STEPS, steps // 2)


class Waits(Protocol):
    """The counters of a `comm.comm_thread.CommandQueue`: how long it held the main thread up."""

    blocked_by_name: dict[str, float]
    blocked_seconds: float
    """The sum of `blocked_by_name`."""


class Recorder:
    """Records one rank; `enter` to `end_step` are for its main thread.

    Waits are read off the queue's counters at every border between two passes, so that the step loop has no
    line about them: a wait that happened since the last border is taken to have just ended.

    Parameters
    ----------
    keep
        Keep every span in `spans`, as a trace needs. Costs memory; without, only sums are kept.
    """

    def __init__(self, *, keep: bool = False):
        self.keep, self.spans, self.complete = keep, list[Span](), True
        self._main = threading.get_ident()
        self._queue: Waits | None = None
        self._counted_seconds, self._counted_waits = 0.0, dict[str, float]()
        self._inline_update = 0.0
        self._now, self._total = StepSums(), StepSums()
        self._warm = [StepSums()]
        self.passes = 0
        """How many have ended, for others to look at."""
        self.last_pass: tuple[str, str] | None = None
        """The node and the pass that has ended last."""

    def watch(self, queue: Waits) -> None:
        """Read waits off this queue's counters; the calling thread is the main thread from now on."""
        self._main, self._queue = threading.get_ident(), queue

    def enter(self) -> float:
        """Begin a pass: return the time."""
        now = time.perf_counter()
        self._notice_waits(now)
        return now

    def leave(self, node: str, direction: str, start: float) -> None:
        """End the pass that `enter` began. What it waited for communication comes last in it."""
        now = time.perf_counter()
        end = now - self._notice_waits(now)
        compute, layers, place = self._now.compute, self._now.layers, (node, direction)
        self.passes, self.last_pass = self.passes + 1, place
        compute[direction] = compute.get(direction, 0.0) + end - start
        layers[place] = layers.get(place, 0.0) + end - start
        if self.keep:
            self._keep(Span(f"{node} {direction}", COMPUTE, start, end, {LAYER: node, PASS: direction}))

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Time an update of weights, on whichever thread does it; the main thread's is compute, no wait."""
        start = time.perf_counter()
        yield
        end, inline = time.perf_counter(), threading.get_ident() == self._main
        if inline:
            self._inline_update += end - start
            self._now.compute[UPDATE] = self._now.compute.get(UPDATE, 0.0) + end - start
        if self.keep:
            self._keep(Span(UPDATE, COMPUTE if inline else COMMUNICATION, start, end, {PASS: UPDATE}))

    @contextmanager
    def doing(self, name: str) -> Iterator[None]:
        """Keep a span of the main thread that belongs to no step."""
        start = time.perf_counter()
        yield
        self.enter()
        if self.keep:
            self._keep(Span(name, COMPUTE, start, time.perf_counter()))

    def communication(self, name: str, start: float, end: float, attributes: Mapping[str, object]) -> None:
        """Keep the span of a job of the communication thread, or of one of its rounds."""
        if self.keep:
            self._keep(Span(name, COMMUNICATION, start, end, attributes))

    def load(self, start: float, end: float) -> None:
        """Keep the span in which the reader's thread read a minibatch."""
        if self.keep:
            self._keep(Span("load", DATA, start, end))

    def wait_for_data(self, start: float, end: float) -> None:
        """Count the main thread's wait for a minibatch."""
        self._now.data += end - start
        if self.keep:
            self._keep(Span(DATA_WAIT, WAITS, start, end, {FOR_DATA: True}))

    def begin_step(self) -> None:
        """Discard all counts since the last step: they belong to none."""
        self.enter()
        self._now = StepSums()

    def end_step(self, number: int, start: float, end: float) -> None:
        """Count all since the last step, or `begin_step`, as this step's."""
        self._notice_waits(end)
        self._now.steps, self._now.wall = 1, end - start
        self._now.busy.append(end - start - sum(self._now.waits.values()))
        self._total.add(self._now)
        self._now = StepSums()
        if self._total.steps <= WARM_STEPS:
            self._warm.append(deepcopy(self._total))
        if self.keep:
            self._keep(Span(f"step {number}", COMPUTE, start, end, {STEP: number}))

    def steady(self) -> StepSums:
        """Return the sums without the first few steps."""
        sums = deepcopy(self._total)
        sums.add(self._warm[warm_steps(sums.steps)], -1)
        return sums

    def _notice_waits(self, now: float) -> float:
        """Count the queue's waits since the last call; return their seconds."""
        queue = self._queue
        if queue is None or queue.blocked_seconds == self._counted_seconds:
            return 0.0
        self._counted_seconds = queue.blocked_seconds
        grown = {
            name: total - self._counted_waits.get(name, 0.0) for name, total in queue.blocked_by_name.items()
        }
        self._counted_waits = dict(queue.blocked_by_name)
        names = [name for name, seconds in grown.items() if seconds > 0]
        end = now
        for name in reversed(names):
            updated = min(self._inline_update, grown[name])
            self._inline_update -= updated
            seconds = grown[name] - updated
            self._now.waits[name] = self._now.waits.get(name, 0.0) + seconds
            if self.keep:
                self._keep(Span(name, WAITS, end - seconds, end))
            end -= grown[name]
        return now - end

    def _keep(self, span: Span) -> None:
        if len(self.spans) < MOST_SPANS:
            self.spans.append(span)
        else:
            self.complete = False
