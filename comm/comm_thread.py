"""The communication thread: runs jobs concurrently with the main thread's kernels, the most urgent first."""

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from comm.backoff import Backoff
from comm.job import Job
from comm.scheduler import BYTES_IN_FLIGHT, FailureHook, Pending, Scheduler, SpanHook, run_all

THREAD_NAME = "comm"
_NO_TIMEOUT = -1.0  # as `Lock.acquire` takes it
_PATIENCE_S = 0.05  # tens of steps of a network of which all jobs are small
_SETTLE_S, _SETTLE_POLL_S = 1.0, 1e-3
_UNSETTLED: list[Scheduler] = []  # whose arrays MPI may still touch


class Request:
    """Handle of a submitted job."""

    def __init__(self, queue: "CommandQueue", name: str) -> None:
        self.queue, self.name = queue, name
        self._error: BaseException | None = None
        self._ended = False

    def wait(self) -> None:
        """Block until the job has ended; raise the error that ended it, its own or of an earlier job."""
        if not self._ended:
            with self.queue.blocked(self.name):
                self.queue.drive(self)
        if self._error is not None:
            raise self._error

    def has_ended(self) -> bool:
        """Return at once whether the job has ended."""
        return self._ended

    @property
    def failed(self) -> bool:
        """Whether an error has ended the job."""
        return self._error is not None

    def end(self, error: BaseException | None) -> None:
        """Mark the job as ended; called once, by the queue."""
        self._error, self._ended = error, True


class AllOf(Request):
    """Several requests as one, which a job may be started after."""

    def __init__(self, requests: Sequence[Request]) -> None:
        super().__init__(requests[0].queue, requests[0].name)
        self._requests = tuple(requests)

    def wait(self) -> None:
        """Block until all jobs have ended; raise the error of the first that has failed."""
        for request in self._requests:
            request.wait()

    def has_ended(self) -> bool:
        """Return at once whether all jobs have ended."""
        return all(request.has_ended() for request in self._requests)


class CommandQueue(ABC):
    """Runs jobs. All ranks submit the same jobs in the same order; they may end in any order.

    After one job has failed, all other requests fail with the same error.
    """

    def __init__(self) -> None:
        self.blocked_by_name: dict[str, float] = {}
        """Seconds that the submitting thread was blocked in `submit` and `Request.wait`, by the job's name.

        This is the exposed time. It includes the computation inside jobs, such as the update of the weights.
        """
        self.blocked_seconds = 0.0
        """Sum of `blocked_by_name`, read far more often than it changes."""
        self.awaited: str | None = None
        """Name of the job that the submitting thread is blocked by."""

    def blocked(self, name: str) -> "_Blocked":
        """Count the time inside the `with` as blocked by the named job."""
        return _Blocked(self, name)

    def begin_wait(self, name: str) -> None:
        """Note that the submitting thread is blocked by a job."""
        self.awaited = name

    def end_wait(self, name: str, seconds: float) -> None:
        """Note that it is not blocked any more, and how long it was."""
        self.awaited = None
        self.blocked_by_name[name] = self.blocked_by_name.get(name, 0.0) + seconds
        self.blocked_seconds = sum(self.blocked_by_name.values())

    @abstractmethod
    def submit(self, job: Job, *, name: str = "", priority: int = 0, after: Request | None = None) -> Request:
        """Submit a job, to be started once the job of `after` has ended.

        Lower priority numbers go first; of equal ones, the job submitted first.
        """

    def pending(self) -> list[Pending]:
        """Return the jobs that have been begun and have not ended; any thread may ask."""
        return []

    def drive(self, request: Request) -> None:
        """Advance jobs on the calling thread, which has submitted them, until that of `request` has ended.

        Where `submit` runs a job to its end, there is nothing to do.
        """
        assert request.has_ended()

    @abstractmethod
    def close(self) -> None:
        """Block until all submitted jobs have ended; nothing may be submitted afterwards."""

    def abandon(self, error: BaseException) -> None:
        """End all jobs with an error, and close; nobody touches their arrays afterwards.

        After a loss only, when communication is revoked: else MPI would still write into the arrays.
        """
        self.close()


class _Blocked:
    """A `with` in which a job blocks the submitting thread; a generator would take as long as the rest."""

    def __init__(self, queue: CommandQueue, name: str) -> None:
        self._queue, self._name, self._start = queue, name, 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()
        self._queue.begin_wait(self._name)

    def __exit__(self, *_: object) -> None:
        self._queue.end_wait(self._name, time.perf_counter() - self._start)


class CommThread(CommandQueue):
    """Runs jobs on a dedicated thread, and on the submitting thread while that waits for one.

    The thread that waits has a core, the interpreter's lock and nothing else to do: handing jobs over to the
    other one and back would take longer than a small job. So one of the two advances jobs, never both.

    Parameters
    ----------
    spare_core
        Whether the thread has a core of its own to poll on; see `Backoff`.
    patient
        Leave jobs to the submitting thread, which mostly waits for them soon; this one looks for what is left
        twenty times a second. Where all jobs are small, and the two share a core, waking it for each
        would take longer than what it does.
    bytes_in_flight
        Limit on messages in flight, see `Scheduler`; any value gives the same bits.
    on_failure
        Called on the thread that advances jobs with the error of the first job that fails, before any waiter
        sees it: the main thread may compute for long, while the other ranks wait. It may end the process, not
        raise.
    on_span
        Called on the same thread when a job or one of its rounds has ended; see `SpanHook`.
    """

    def __init__(
        self,
        *,
        spare_core: bool = False,
        patient: bool = False,
        bytes_in_flight: int = BYTES_IN_FLIGHT,
        on_failure: FailureHook | None = None,
        on_span: SpanHook | None = None,
    ):
        super().__init__()
        self._scheduler = Scheduler(bytes_in_flight=bytes_in_flight, on_failure=on_failure, on_span=on_span)
        self._backoff, self._waiters = Backoff(spare_core=spare_core), Backoff(spare_core=spare_core)
        self._turn = threading.Lock()  # held by the thread that advances jobs, for one turn
        self._patient = patient
        self._driven = False  # whether the submitting thread does
        self._open = True
        self._submitted: deque[Callable[[], None] | None] = deque()  # calls that add a job; None: close
        # Released to end the thread's nap. A queue.SimpleQueue would be queue and signal in one, but its
        # get() with a short timeout sometimes never returned (CPython 3.11).
        self._bell = threading.Lock()
        self._bell.acquire()
        self._thread = threading.Thread(target=self._serve, name=THREAD_NAME, daemon=True)
        self._thread.start()

    def submit(self, job: Job, *, name: str = "", priority: int = 0, after: Request | None = None) -> Request:
        """Hand a job to the thread and return at once."""
        request = Request(self, name)
        may_start = None if after is None else after.has_ended
        add = partial(
            self._scheduler.add, job, request.end, name=name, priority=priority, may_start=may_start
        )
        self._submitted.append(add)
        if not self._patient and (after is None or after.has_ended()):
            self._wake()  # else the thread is at that job, and looks here when it has ended
        return request

    def pending(self) -> list[Pending]:
        """Return the jobs that have been begun and have not ended; any thread may ask."""
        return self._scheduler.pending()

    def close(self) -> None:
        """Block until all submitted jobs, and the thread, have ended."""
        self._submitted.append(None)
        self._wake()
        self._thread.join()

    def abandon(self, error: BaseException) -> None:
        """End all jobs and the thread; see `CommandQueue`."""
        with self._turn:
            self._scheduler.abandon(error)
        self.close()
        _settle(self._scheduler)

    def drive(self, request: Request) -> None:
        """Advance jobs in the thread's place, which sleeps meanwhile, until that of `request` has ended."""
        self._driven = True
        try:
            while not request.has_ended():
                with self._turn:  # the thread may still be in one, and end the job in it
                    progressed = request.has_ended() or self._advance()
                nap = self._waiters.nap_s(progressed=progressed, awaited=True)
                if nap:
                    time.sleep(nap)
        finally:
            self._driven = False
            if not self._patient:
                self._wake()  # there may be other jobs

    def _wake(self) -> None:
        """End the thread's nap. Only one thread submits and waits, so no other can release the lock first."""
        if self._bell.locked():
            self._bell.release()

    def _serve(self) -> None:
        scheduler, idle_nap = self._scheduler, _PATIENCE_S if self._patient else _NO_TIMEOUT
        while self._open or scheduler.busy:
            nap = idle_nap
            if not self._driven:
                with self._turn:
                    progressed = self._advance()
                if scheduler.busy and (progressed or not self._patient):
                    nap = self._backoff.nap_s(progressed=progressed, awaited=False)
                elif not self._open:
                    nap = 0.0
            if nap:
                self._bell.acquire(timeout=nap)

    def _advance(self) -> bool:
        """Add what has been submitted, and advance a job; return whether one could be. Under `_turn`."""
        while self._submitted:
            add = self._submitted.popleft()
            if add is None:
                self._open = False
            else:
                add()
        return self._scheduler.busy and self._scheduler.turn()


class InlineCommThread(CommandQueue):
    """Runs each job to its end inside `submit`: no overlap, the reference for every test of overlap.

    The hooks are those of `CommThread`, but are called on the submitting thread.
    """

    def __init__(self, *, on_failure: FailureHook | None = None, on_span: SpanHook | None = None):
        super().__init__()
        self._scheduler = Scheduler(on_failure=on_failure, on_span=on_span)

    def submit(self, job: Job, *, name: str = "", priority: int = 0, after: Request | None = None) -> Request:
        """Run a job to its end; `Request.wait` raises its error."""
        request = Request(self, name)
        with self.blocked(name):
            self._scheduler.add(job, request.end, name=name, priority=priority)
            run_all(self._scheduler, Backoff())
        return request

    def pending(self) -> list[Pending]:
        """Return the job that runs in `submit`; any thread may ask."""
        return self._scheduler.pending()

    def close(self) -> None:
        """Return at once: nothing is queued."""

    def abandon(self, error: BaseException) -> None:
        """Let all later jobs end with the error; see `CommandQueue`."""
        self._scheduler.abandon(error)
        _settle(self._scheduler)


def _settle(scheduler: Scheduler) -> None:
    """Wait until nobody touches the arrays of abandoned jobs; keep them where that takes too long."""
    end = time.monotonic() + _SETTLE_S
    while not scheduler.settle():
        if time.monotonic() > end:
            _UNSETTLED.append(scheduler)
            return
        time.sleep(_SETTLE_POLL_S)
