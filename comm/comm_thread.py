"""The communication thread: jobs go on side by side, the most urgent first, beside the computation."""

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from comm.job import Job
from comm.scheduler import BYTES_IN_FLIGHT, Backoff, FailureHook, Scheduler, SpanHook, run_all

_UNTIL_RUNG = -1.0  # a timeout of Lock.acquire: none


class Request:
    """A submitted job."""

    def __init__(self, queue: "CommandQueue", name: str) -> None:
        self._queue, self.name = queue, name
        self._running = threading.Lock()  # cheaper than an Event: a small network waits often
        self._running.acquire()
        self._error: BaseException | None = None
        self._ended = False

    def wait(self) -> None:
        """Return when the job has ended; raise what it raised, or what another job raised before that."""
        if not self._ended:
            with self._queue.blocked(self.name), self._running:
                pass
        if self._error is not None:
            raise self._error

    def has_ended(self) -> bool:
        """Say whether the job has ended, without waiting."""
        return self._ended

    def end(self, error: BaseException | None) -> None:
        """Let the waiters go on; called once, by the queue."""
        self._error, self._ended = error, True
        self._running.release()


class CommandQueue(ABC):
    """Runs jobs. All ranks submit the same ones in the same order, and may finish them in any.

    After a job has failed no other goes on: their requests fail with the same error.
    """

    def __init__(self) -> None:
        self.blocked_by_name: dict[str, float] = {}
        """Seconds that the submitting thread was held up in `submit` and `Request.wait`, by the job's name.

        It is what is not hidden. It counts whole jobs, so also what they compute, such as the update of the
        weights.
        """

    @property
    def blocked_seconds(self) -> float:
        """The sum of `blocked_by_name`."""
        return sum(self.blocked_by_name.values())

    @contextmanager
    def blocked(self, name: str) -> Iterator[None]:
        """Count the time inside as blocked by a job."""
        start = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - start
            self.blocked_by_name[name] = self.blocked_by_name.get(name, 0.0) + passed

    @abstractmethod
    def submit(self, job: Job, *, name: str = "", priority: int = 0, after: Request | None = None) -> Request:
        """Start a job, if it builds on another then when that one has ended.

        Lower priority numbers go first, among equal ones the earlier.
        """

    @abstractmethod
    def close(self) -> None:
        """Return when all submitted jobs have ended; nothing may be submitted afterwards."""


class CommThread(CommandQueue):
    """Runs jobs on a thread of its own.

    Parameters
    ----------
    spare_core
        Whether that thread may keep a core busy while the main thread waits for messages; see `Backoff`.
    bytes_in_flight
        See `Scheduler`; any value gives the same bits.
    on_failure
        Called on the communication thread with the error of the first job that fails, before any waiter sees
        it: the caller may be busy for long, and the other ranks wait. It may end the process, not raise.
    on_span
        Called on the communication thread when a job or one of its exchanges has ended; see `SpanHook`.
    """

    def __init__(
        self,
        *,
        spare_core: bool = False,
        bytes_in_flight: int = BYTES_IN_FLIGHT,
        on_failure: FailureHook | None = None,
        on_span: SpanHook | None = None,
    ):
        super().__init__()
        self._scheduler = Scheduler(bytes_in_flight=bytes_in_flight, on_failure=on_failure, on_span=on_span)
        self._backoff = Backoff(spare_core=spare_core)
        self._submitted: deque[Callable[[], None] | None] = deque()
        # Free when something has been submitted. A queue.SimpleQueue would do both, but its get() with a
        # short timeout sometimes never returned (CPython 3.11).
        self._awaited = False  # whether the submitting thread is held up
        self._bell = threading.Lock()
        self._bell.acquire()
        self._thread = threading.Thread(target=self._serve, name="comm", daemon=True)
        self._thread.start()

    def submit(self, job: Job, *, name: str = "", priority: int = 0, after: Request | None = None) -> Request:
        """Hand a job to the thread and return at once."""
        request = Request(self, name)
        may_start = None if after is None else after.has_ended
        add = partial(
            self._scheduler.add, job, request.end, name=name, priority=priority, may_start=may_start
        )
        self._hand_over(add)
        return request

    def close(self) -> None:
        """Return when the thread has run all submitted jobs and ended."""
        self._hand_over(None)
        self._thread.join()

    @contextmanager
    def blocked(self, name: str) -> Iterator[None]:
        """Let the thread hurry, and count the time."""
        self._awaited = True
        self._wake()
        try:
            with super().blocked(name):
                yield
        finally:
            self._awaited = False

    def _hand_over(self, entry: Callable[[], None] | None) -> None:
        self._submitted.append(entry)
        self._wake()

    def _wake(self) -> None:
        """End the thread's nap; one thread submits and waits, so nobody else frees the lock meanwhile."""
        if self._bell.locked():
            self._bell.release()

    def _serve(self) -> None:
        scheduler, is_open = self._scheduler, True
        while is_open or scheduler.busy:
            while self._submitted:
                add = self._submitted.popleft()
                if add is None:
                    is_open = False
                else:
                    add()
            if scheduler.busy:
                nap = self._backoff.nap_s(moved=scheduler.turn(), awaited=self._awaited)
            else:
                nap = _UNTIL_RUNG if is_open else 0.0
            if nap:
                self._bell.acquire(timeout=nap)


class InlineCommThread(CommandQueue):
    """Runs each job to its end inside `submit`: overlap off, the reference for every overlap test.

    The hooks, which are those of `CommThread`, are called on the submitting thread.
    """

    def __init__(self, *, on_failure: FailureHook | None = None, on_span: SpanHook | None = None):
        super().__init__()
        self._scheduler = Scheduler(on_failure=on_failure, on_span=on_span)

    def submit(self, job: Job, *, name: str = "", priority: int = 0, after: Request | None = None) -> Request:
        """Run a job; its error waits in the request."""
        request = Request(self, name)
        with self.blocked(name):
            self._scheduler.add(job, request.end, name=name, priority=priority)
            run_all(self._scheduler, Backoff())
        return request

    def close(self) -> None:
        """Return at once: nothing is queued."""
