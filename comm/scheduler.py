"""Several jobs at once on one thread: what goes first, how much is on its way, and how to wait."""

import os
import time
from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from comm.communicator import Transfer
from comm.job import Job, Round

FailureHook = Callable[[BaseException], None]
SpanHook = Callable[[str, float, float, dict[str, Any]], None]
"""``on_span(job's name, start, end, about)``, in seconds of `time.perf_counter`.

``about["kind"]`` is "job" for the whole run of a job, "exchange" for one of its exchanges from post to
completion, which overlap. Further keys: "bytes", "priority" and, of an exchange, "partner".
"""

BYTES_IN_FLIGHT = 4 << 20
STALL_S = 0.02
"""A job that has not moved for so long holds up no other: longer than a chunk takes on all but slow links."""

_POLL_S = 1e-3  # so long a wait only polls while the main thread waits too: nobody needs the core
_NAPS_S = (50e-6, 1e-3)  # else it sleeps between polls: the briefest, and the longest
_POLLS = 4  # in the time that messages usually take: longer naps cost bandwidth, and each poll some 50 us


class Scheduler:
    """Advances jobs, each an independent sequence of exchanges; a job alone must end on its own.

    Jobs of a lower priority number go first; of equal ones, those added first. A job posts its next
    exchange when, with it, at most `bytes_in_flight` of its own and of the jobs before it are on their way.
    Jobs behind it never count, so an urgent job starts whatever is on its way already. Where a job waits,
    those behind it go on.

    No order in which ranks add or advance jobs makes a deadlock. Messages of different jobs have different
    tags, so a job can be held up from outside by that limit only, and a job that has not moved for STALL_S
    does not count. In a deadlock nothing moves: after STALL_S no limit holds, and every job that all ranks
    have added goes on as if it were alone. As to those that some have not: of the ranks whose main threads
    wait, take one that is least far in the program which they share. All others have added the job that it
    waits for, so that job ends, and the rank goes on.
    """

    def __init__(
        self,
        *,
        bytes_in_flight: int = BYTES_IN_FLIGHT,
        on_failure: FailureHook | None = None,
        on_span: SpanHook | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._limit, self._on_failure, self._on_span, self._clock = (
            bytes_in_flight,
            on_failure,
            on_span,
            clock,
        )
        self._jobs: list[_Job] = []  # what goes first comes first
        self._abandoned: list[_Job] = []  # whose messages may still touch their arrays
        self._error: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether there is a job that has not ended."""
        return bool(self._jobs)

    def add(
        self,
        steps: Job,
        end: Callable[[BaseException | None], None],
        *,
        name: str = "",
        priority: int = 0,
        may_start: Callable[[], bool] | None = None,
    ) -> None:
        """Take on a job; `end` is called once, with the error that ended it if there is one.

        It begins when `may_start` says that the job which it builds on, an earlier one, has ended.

        After a job has failed no other goes on: all end with the same error, because the other ranks would
        wait for this one's part of it for ever.
        """
        if self._error is not None:
            end(self._error)
        else:
            now = self._clock()
            insort(
                self._jobs,
                _Job(steps, end, name, priority, may_start, now, now),
                key=lambda job: job.priority,
            )

    def turn(self) -> bool:
        """Advance the first job that can go on by one step, without waiting; say whether one could."""
        now, ahead = self._clock(), 0
        for place, job in enumerate(self._jobs):
            if job.is_held(now):
                continue
            try:
                moved = self._post(job, ahead) or self._complete(job)
            except KeyboardInterrupt:  # only inline: it is for the main thread, at once
                raise
            except BaseException as error:  # the waiter, not this thread, must see it
                self._fail(error)
                return True
            if job.exhausted and not job.flying:
                del self._jobs[place]
                self._end(job)
                return True
            if moved:
                job.moved = self._clock()
                return True
            if now - job.moved < STALL_S:
                ahead += job.flying_bytes
        return False

    def _post(self, job: "_Job", ahead: int) -> bool:
        """Let a job compute up to its next exchange, and start that if it may; say whether it went on."""
        step = job.upcoming
        if step is None:
            if job.exhausted:
                return False
            try:
                step = job.upcoming = next(job.steps)
            except StopIteration:
                job.exhausted = True
                return False
            if step is None:
                return True
        size, flying = step.wire_bytes, ahead + job.flying_bytes
        if len(job.flying) > step.max_pending or (flying and flying + size > self._limit):
            return False
        transfer = step.communicator.post(step.sends, step.receives)
        job.flying.append((step, transfer, self._clock()))
        job.upcoming = None
        job.flying_bytes += size
        job.bytes += step.bytes
        return True

    def _complete(self, job: "_Job") -> bool:
        """Finish a job's oldest exchange if its messages have completed; say whether they had."""
        if not job.flying or not job.flying[0][1].test():
            return False
        step, _, posted = job.flying.popleft()
        job.flying_bytes -= step.wire_bytes
        if self._on_span is not None:
            about = {
                "kind": "exchange",
                "bytes": step.bytes,
                "partner": step.partner,
                "priority": job.priority,
            }
            self._on_span(job.name, posted, self._clock(), about)
        if step.then is not None:
            step.then()
        return True

    def _end(self, job: "_Job") -> None:
        if self._on_span is not None:
            about = {"kind": "job", "bytes": job.bytes, "priority": job.priority}
            self._on_span(job.name, job.started, self._clock(), about)
        job.end(None)

    def _fail(self, error: BaseException) -> None:
        self._error = error
        try:
            if self._on_failure is not None:
                self._on_failure(error)
        finally:  # the waiters must not wait for ever
            self._jobs, self._abandoned = [], self._jobs
            for job in self._abandoned:
                job.end(error)


@dataclass
class _Job:
    steps: Job
    end: Callable[[BaseException | None], None]
    name: str
    priority: int
    may_start: Callable[[], bool] | None
    started: float
    moved: float
    """When it last went on."""
    upcoming: Round | None = None
    exhausted: bool = False
    """Whether there are no more steps; it ends when what is on its way has completed."""
    flying: deque[tuple[Round, Transfer, float]] = field(default_factory=deque)
    flying_bytes: int = 0
    bytes: int = 0

    def is_held(self, now: float) -> bool:
        """Say whether it still waits for its start; note the time of that."""
        if self.may_start is not None and self.may_start():
            self.may_start, self.started = None, now
        return self.may_start is not None


class Backoff:
    """How a thread that polls waits: it naps between polls, as long as past waits suggest, longer and longer.

    While the main thread waits for a job, it only polls at first. While that computes, it must not: it would
    take the core from the kernels, and the interpreter's lock from the main thread between two of them.

    Parameters
    ----------
    spare_core
        Whether the thread has a core of its own: it polls all the time while the main thread waits, and naps
        as briefly as it can while that computes.
    """

    def __init__(self, *, spare_core: bool = False):
        self._spare_core = spare_core
        self._since = self._usual = 0.0  # when this wait began (0: none), how long the last ones took

    def nap_s(self, *, moved: bool, awaited: bool) -> float:
        """Return how long to sleep now.

        Parameters
        ----------
        moved
            Whether the last poll has found something.
        awaited
            Whether the main thread waits.
        """
        if moved and not self._since:
            return 0.0
        now = time.perf_counter()
        waited = now - (self._since or now)
        if moved:
            self._usual += (waited - self._usual) / _POLLS
            self._since = 0.0
            return 0.0
        self._since = self._since or now
        if self._spare_core:
            return 0.0 if awaited else _NAPS_S[0]
        if awaited and waited < _POLL_S:
            os.sched_yield()  # perhaps to the rank that is waited for
            return 0.0
        return min(max(_NAPS_S[0], max(waited, self._usual) / _POLLS), _NAPS_S[1])


def run_all(scheduler: Scheduler, backoff: Backoff) -> None:
    """Advance a scheduler's jobs on the calling thread until all have ended."""
    while scheduler.busy:
        nap = backoff.nap_s(moved=scheduler.turn(), awaited=True)
        if nap:
            time.sleep(nap)


def run_job(job: Job) -> None:
    """Run one job to its end on the calling thread; raise what it raised. For callers without a queue."""
    errors: list[BaseException] = []
    scheduler = Scheduler(on_failure=errors.append)
    scheduler.add(job, lambda _: None)
    run_all(scheduler, Backoff())
    if errors:
        raise errors[0]
