"""The worker threads of one rank: they run serial kernels over ranges of tasks."""

import itertools
import threading
from collections.abc import Callable
from typing import Any

PIECES_PER_THREAD = 4  # ranges a worker takes one after the other: evens out cores of unequal speed
INLINE_WORK = 60_000  # FLOP or floats; below, waking a worker costs more than it saves


class Threads:
    """Workers that share the tasks of a kernel; the calling thread is worker 0.

    Every kernel writes each element from one task only, so neither the number of workers nor who
    takes which range changes a bit. One `Threads` serves one caller at a time.
    """

    def __init__(self, count: int):
        if count < 1:
            raise ValueError(f"threads: got {count}, must be at least 1")
        self.count = count
        self._call: Callable[[int], None] | None = None
        self._error: BaseException | None = None
        self._start = [_closed_lock() for _ in range(count)]
        self._done = [_closed_lock() for _ in range(count)]
        for worker in range(1, count):
            threading.Thread(
                target=self._serve, args=(worker,), name=f"kernels-{worker}", daemon=True
            ).start()

    def run(self, kernel: Callable[..., None], tasks: int, work: int, *arguments: Any) -> None:
        """Call ``kernel(worker, first, last, *arguments)`` so that each of `tasks` is done once.

        Parameters
        ----------
        tasks : int
            Independent pieces of the result.
        work : int
            Size of the whole in FLOP or floats moved; little work stays on the calling thread.
        """
        if self.count == 1 or tasks < 2 or work < INLINE_WORK:
            kernel(0, 0, tasks, *arguments)
            return
        pieces = min(tasks, self.count * PIECES_PER_THREAD)
        ranges = iter([(tasks * i // pieces, tasks * (i + 1) // pieces) for i in range(pieces)])

        def take(worker: int) -> None:
            for first, last in ranges:
                kernel(worker, first, last, *arguments)

        workers = range(1, min(self.count, pieces))
        self._call = take
        for worker in workers:
            self._start[worker].release()
        try:
            take(0)
        finally:
            for worker in workers:
                self._done[worker].acquire()
            error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """End the workers."""
        self._call = None
        for lock in itertools.islice(self._start, 1, None):
            lock.release()

    def _serve(self, worker: int) -> None:
        while True:
            self._start[worker].acquire()
            if self._call is None:
                return
            try:
                self._call(worker)
            except BaseException as error:  # raised again where the kernel was called
                self._error = error
            self._done[worker].release()


def _closed_lock() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock
