"""The scheduler of jobs: which of several goes first, and how many bytes are in flight."""

import time
from bisect import insort
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from comm.backoff import Backoff
from comm.communicator import Transfer
from comm.job import Job, Round

FailureHook = Callable[[BaseException], None]
SpanHook = Callable[[str, float, float, dict[str, Any]], None]
"""``on_span(job's name, start, end, attributes)``, in seconds of `time.perf_counter`.

``attributes["kind"]`` is "job" for a whole job, from its start to its end, or "exchange" (as trace files call
it) for one of its rounds, from post to completion; rounds overlap. Further attributes: "bytes", "priority"
and, of a round, "partner".
"""

BYTES_IN_FLIGHT = 4 << 20
"""Four chunks: the link stays busy while one is added, and an urgent job soon has the link to itself."""

STALL_S = 0.02
"""A job without progress for 20 ms holds up no other: a chunk takes less on all but slow links (1 MB: 8 ms at
1 Gb/s)."""


@dataclass(frozen=True)
class Pending:
    """A job that has not ended."""

    name: str
    partners: tuple[int, ...]
    """Ranks of its communicator whose messages are in flight: from them or, if none is received, to them."""


class Scheduler:
    """Advances jobs, each an independent sequence of rounds that would end if it were the only one.

    Jobs of a lower priority number go first; of equal ones, those added first. A job posts its next round if
    at most `bytes_in_flight` of this job and the jobs before it are in flight then. Jobs behind it never
    count, so an urgent job starts whatever is in flight already. Where a job waits, those behind it go on.

    No order in which ranks add or advance jobs can deadlock. Messages of different jobs have different tags,
    so only that limit can make one job wait for another, and a job that has not progressed for STALL_S does
    not count. In a deadlock nothing would progress: after STALL_S no limit holds, and every job that all
    ranks have added goes on as if it were the only one. As to jobs that some ranks have not added yet: of the
    ranks whose main threads wait, take the one that is least far in the program, which all ranks share. All
    others have added the job that it waits for, so that job ends, and the rank goes on.
    """

    def __init__(
        self,
        *,
        bytes_in_flight: int = BYTES_IN_FLIGHT,
        on_failure: FailureHook | None = None,
        on_span: SpanHook | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._bytes_in_flight, self._clock = bytes_in_flight, clock
        self._on_failure, self._on_span = on_failure, on_span
        self._jobs: list[_ActiveJob] = []  # in the order of priority
        self._abandoned: list[_ActiveJob] = []  # kept: MPI may still write into their rounds' arrays
        self._error: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether a job has not ended."""
        return bool(self._jobs)

    def pending(self) -> list[Pending]:
        """Return the jobs that have not ended, the most urgent first; any thread may ask."""
        return [Pending(job.name, job.partners()) for job in tuple(self._jobs)]

    def add(
        self,
        job: Job,
        on_end: Callable[[BaseException | None], None],
        *,
        name: str = "",
        priority: int = 0,
        may_start: Callable[[], bool] | None = None,
    ) -> None:
        """Add a job; `on_end` is called once, with the error that ended the job if there is one.

        The job starts when `may_start` returns true: when the earlier job that it depends on has ended.

        After one job has failed all others end with the same error: the other ranks would wait for ever for
        this rank's messages.
        """
        if self._error is not None:
            on_end(self._error)
            return
        now = self._clock()
        active = _ActiveJob(job, on_end, name, priority, may_start, now, now)
        insort(self._jobs, active, key=lambda other: other.priority)

    def turn(self) -> bool:
        """Advance the first job that can progress, by one round or computation; return whether one could."""
        now, bytes_ahead = self._clock(), 0
        for place, job in enumerate(self._jobs):
            if job.waits_to_start(now):
                continue
            try:
                progressed = self._post(job, bytes_ahead) or self._complete(job)
            except KeyboardInterrupt:  # only inline: it is the main thread's, at once
                raise
            except BaseException as error:  # raised again in `Request.wait`, on the main thread
                self._fail(error)
                return True
            if job.exhausted and not job.in_flight:
                del self._jobs[place]
                self._end(job)
                return True
            if progressed:
                job.progressed_at = self._clock()
                return True
            if now - job.progressed_at < STALL_S:
                bytes_ahead += job.bytes_in_flight
        return False

    def _post(self, job: "_ActiveJob", bytes_ahead: int) -> bool:
        """Advance a job to its next round, and post that if it may; return whether the job progressed."""
        upcoming = job.upcoming
        if upcoming is None:
            if job.exhausted:
                return False
            try:
                upcoming = job.upcoming = next(job.rounds)
            except StopIteration:
                job.exhausted = True
                return False
            if upcoming is None:
                return True
        size, in_flight = upcoming.wire_bytes, bytes_ahead + job.bytes_in_flight
        if len(job.in_flight) > upcoming.max_pending:
            return False
        if in_flight and in_flight + size > self._bytes_in_flight:  # of any size, if it is the only one
            return False
        transfer = upcoming.communicator.post(upcoming.sends, upcoming.receives)
        job.in_flight.append((upcoming, transfer, self._clock(), size))
        job.upcoming = None
        job.bytes_in_flight += size
        job.bytes += size + upcoming.bytes_read
        return True

    def _complete(self, job: "_ActiveJob") -> bool:
        """Finish a job's oldest round if its messages have completed; return whether they had."""
        if not job.in_flight or not job.in_flight[0][1].test():
            return False
        oldest, _, posted, size = job.in_flight.popleft()
        job.bytes_in_flight -= size
        if self._on_span is not None:
            attributes = {
                "kind": "exchange",
                "bytes": oldest.bytes,
                "partner": oldest.partner,
                "priority": job.priority,
            }
            self._on_span(job.name, posted, self._clock(), attributes)
        if oldest.then is not None:
            oldest.then()
        return True

    def _end(self, job: "_ActiveJob") -> None:
        if self._on_span is not None:
            attributes = {"kind": "job", "bytes": job.bytes, "priority": job.priority}
            self._on_span(job.name, job.started, self._clock(), attributes)
        job.on_end(None)

    def _fail(self, error: BaseException) -> None:
        self._error = error
        try:
            if self._on_failure is not None:
                self._on_failure(error)
        finally:  # also if the hook raises: nobody may wait for ever
            self._end_all(error)

    def _end_all(self, error: BaseException) -> None:
        jobs, self._jobs = self._jobs, []
        self._abandoned += jobs
        for job in jobs:
            job.on_end(error)

    def abandon(self, error: BaseException) -> None:
        """End all jobs, those that are added later too, with an error that somebody else has noticed."""
        self._error = self._error or error
        self._end_all(self._error)

    def settle(self) -> bool:
        """Return whether nothing that abandoned jobs have in flight can touch their arrays any more."""
        for job in self._abandoned:
            while job.in_flight and job.in_flight[0][1].settle():
                job.in_flight.popleft()
        self._abandoned = [job for job in self._abandoned if job.in_flight]
        return not self._abandoned


@dataclass
class _ActiveJob:
    """A job that has been added and has not ended, and how far it is."""

    rounds: Job
    on_end: Callable[[BaseException | None], None]
    name: str
    priority: int
    may_start: Callable[[], bool] | None
    """None once it has started."""
    started: float
    progressed_at: float
    upcoming: Round | None = None
    """The next round, until it is posted."""
    exhausted: bool = False
    """Whether the generator has ended; the job ends when its rounds in flight have completed."""
    in_flight: deque[tuple[Round, Transfer, float, int]] = field(default_factory=deque)
    """Posted rounds, when they were posted, and their bytes as messages."""
    bytes_in_flight: int = 0
    bytes: int = 0
    """Bytes of all rounds posted."""

    def partners(self) -> tuple[int, ...]:
        """Return the ranks whose messages are in flight; none where that changes just now."""
        with suppress(RuntimeError):
            return tuple(dict.fromkeys(posted.partner for posted, *_ in self.in_flight))
        return ()

    def waits_to_start(self, now: float) -> bool:
        """Return whether the job must not start yet; note the time when it may for the first time."""
        if self.may_start is not None and self.may_start():
            self.may_start, self.started = None, now
        return self.may_start is not None


def run_all(scheduler: Scheduler, backoff: Backoff) -> None:
    """Advance a scheduler's jobs on the calling thread until all have ended."""
    while scheduler.busy:
        nap = backoff.nap_s(progressed=scheduler.turn(), awaited=True)
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
