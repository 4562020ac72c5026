"""The worker threads of one rank: they run serial kernels over ranges of tasks."""

import os
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from layers.kernels import job
from layers.kernels.float_mode import set_float_mode
from layers.kernels.jit import address
from layers.kernels.shared_cache import LOG

INLINE_WORK = 60_000  # FLOP or floats; waking workers for less costs more than it saves
SPIN_S = 1e-3  # how long a pinned worker spins for the next kernel, which mostly comes sooner
_TRIAL_LOOKS = 1000


class Threads:
    """Workers that share the tasks of a kernel; the calling thread is worker 0.

    Every kernel writes each element from one task only, so neither the number of workers nor who
    takes which range changes a bit. One thread makes, uses and closes a `Threads`.

    Parameters
    ----------
    count
        Fewer are started, with a warning, where the system allows no more.
    cores
        A core for each worker to stay on until `close`, the caller's first; None leaves it to the scheduler.
        Workers spin briefly for the next kernel, but only when pinned. Without effect outside Linux.
    """

    def __init__(self, count: int, cores: tuple[int, ...] | None = None):
        if count < 1:
            raise ValueError(f"threads: got {count}, must be at least 1")
        if cores is not None and len(cores) != count:
            raise ValueError(f"threads: got {len(cores)} cores for {count} threads, must be one each")
        self.count = count
        self._cores = cores if sys.platform == "linux" else None
        self._before = os.sched_getaffinity(0) if self._cores else None
        self._board = job.new_board(count)
        self._at = self._board.ctypes.data
        self._wake = [_closed_lock() for _ in range(count)]
        if count > 1:
            self._looks = self._looks_in(SPIN_S) if self._cores else 0
        for worker in range(1, count):
            thread = threading.Thread(
                target=self._serve, args=(worker,), name=f"kernels-{worker}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # as many as the system allows (ulimit -u, a container's limit on processes)
                self.count = worker
                LOG.warning("warning: only %d of %d kernel threads can be started here", worker, count)
                break
        set_float_mode()
        self._pin(0)  # after the workers: a thread inherits the cores of the one that starts it

    def run(self, kernel: Callable[..., None], tasks: int, work: int, *arguments: Any) -> None:
        """Call ``kernel(worker, first, last, *arguments)`` so that each of `tasks` is done once.

        Parameters
        ----------
        kernel
            Made by `layers.kernels.jit.kernel`.
        tasks : int
            Independent pieces of the result.
        work : int
            FLOP or floats moved by all tasks together; little work stays on the calling thread.
        """
        if self.count == 1 or tasks < 2 or work < INLINE_WORK:
            kernel(0, 0, tasks, *arguments)
            return
        code, post = _posted(kernel)
        called = post(self._at, code, tasks, self.count, arguments)
        try:
            self._wake_up(called)
        finally:
            failed = job.finish(self._at)
        if failed:
            raise RuntimeError(f"{kernel}: failed with numba's status {failed}")

    def close(self) -> None:
        """End the workers, and restore the calling thread's affinity."""
        self._wake_up(job.end(self._at, self.count))
        if self._before is not None:
            os.sched_setaffinity(0, self._before)

    def _wake_up(self, called: int) -> None:
        for worker in range(1, self.count) if called else ():
            state = job.WORKERS + worker * job.LINE
            if self._board[state] == job.CALLED:
                self._board[state] = job.AWAKE  # first: the next job may come before the worker has woken up
                self._wake[worker].release()

    def _serve(self, worker: int) -> None:
        self._pin(worker)
        set_float_mode()
        while job.serve(self._at, worker, self._looks):
            self._wake[worker].acquire()

    def _pin(self, worker: int) -> None:
        if self._cores is not None:
            os.sched_setaffinity(0, {self._cores[worker]})  # 0: the calling thread, not the process

    def _looks_in(self, seconds: float) -> int:
        """Return how often a worker can look at the board within `seconds`."""
        job.serve(self._at, 0, 1)  # compiles
        start = time.perf_counter()
        job.serve(self._at, 0, _TRIAL_LOOKS)
        return int(seconds / (time.perf_counter() - start) * _TRIAL_LOOKS)


@cache
def _posted(kernel: Any) -> tuple[int, Callable[..., int]]:
    """Return the address of a kernel, and the function that posts jobs for it."""
    (signature,) = kernel.signatures
    return address(kernel), job.poster(signature[3:])


def _closed_lock() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock
