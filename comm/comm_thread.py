"""The communication thread: jobs start and finish in the order in which they were submitted."""

import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Job = Callable[[], None]
FailureHook = Callable[[BaseException], None]


class Request:
    """A submitted job."""

    def __init__(self, queue: "CommandQueue") -> None:
        self._queue = queue
        self._ended = threading.Event()
        self._error: BaseException | None = None

    def wait(self) -> None:
        """Return when the job has run; raise what it raised, or what an earlier job raised."""
        with self._queue.blocked():
            self._ended.wait()
        if self._error is not None:
            raise self._error

    def end(self, error: BaseException | None) -> None:
        """Let the waiters go on; called once, by the queue."""
        self._error = error
        self._ended.set()


class CommandQueue(ABC):
    """Runs jobs first in, first out: in the same order on every rank, so that no two wait for each other.

    After a job has failed no later job runs: their requests fail with the same error, because a collective
    that the other ranks never enter would wait for ever.
    """

    blocked_seconds = 0.0
    """How long the submitting thread was held up in `submit` and `Request.wait`: what is not hidden.

    It counts whole jobs, so also what they compute, such as the update of the weights.
    """

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Count the time inside as blocked."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.blocked_seconds += time.perf_counter() - start

    @abstractmethod
    def submit(self, job: Job) -> Request:
        """Queue a job."""

    @abstractmethod
    def close(self) -> None:
        """Return when all submitted jobs have ended; nothing may be submitted afterwards."""


class CommThread(CommandQueue):
    """Runs jobs on a thread of its own, beside the caller's computation.

    Parameters
    ----------
    on_failure
        Called on the communication thread with the error of the first job that fails, before any waiter sees
        it: the caller may be busy for long, and the other ranks wait. It may end the process, not raise.
    """

    def __init__(self, *, on_failure: FailureHook | None = None):
        self._runner = _Runner(on_failure)
        self._jobs: queue.SimpleQueue[tuple[Job, Request] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="comm", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Request:
        """Queue a job and return at once."""
        request = Request(self)
        self._jobs.put((job, request))
        return request

    def close(self) -> None:
        """Return when the thread has run all submitted jobs and ended."""
        self._jobs.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (entry := self._jobs.get()) is not None:
            self._runner.run(*entry)


class InlineCommThread(CommandQueue):
    """Runs each job inside `submit`: overlap off, the reference for every overlap test."""

    def __init__(self, *, on_failure: FailureHook | None = None):
        self._runner = _Runner(on_failure)

    def submit(self, job: Job) -> Request:
        """Run a job; its error waits in the request."""
        request = Request(self)
        with self.blocked():
            self._runner.run(job, request)
        return request

    def close(self) -> None:
        """Return at once: nothing is queued."""


class _Runner:
    """Runs jobs until one fails."""

    def __init__(self, on_failure: FailureHook | None):
        self._on_failure = on_failure
        self._error: BaseException | None = None

    def run(self, job: Job, request: Request) -> None:
        if self._error is None:
            try:
                job()
            except KeyboardInterrupt:  # only inline: it is for the main thread, at once
                raise
            except BaseException as error:  # the waiter, not this thread, must see it
                self._error = error
                if self._on_failure is not None:
                    self._on_failure(error)
        request.end(self._error)
