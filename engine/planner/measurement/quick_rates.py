"""What a rank's threads can do, measured in some hundredths of a second: multiply-adds, and copies."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from engine.host.aligned_arrays import aligned_zeros
from layers.kernels import peak, relu
from layers.kernels.threads import Threads

_STEPS = 20_000  # of the peak loop in a task: about a quarter of a millisecond
_TASKS = 4  # for each thread: a slow core takes fewer, as in the kernels
_PEAK_RUNS, _COPIES = 12, 5
_FLOAT, _ROW = 4, 1024  # bytes; floats of a row, which is one task
_LEAST_BYTES, _MOST_BYTES = 1 << 16, 1 << 24  # of each of the two arrays


@dataclass(frozen=True)
class QuickRates:
    """Rates of all threads of one rank together; the best of a few runs each."""

    flops_per_s: float
    """Multiply-adds from registers, each as two."""
    memory_bytes_per_s: float
    """Bytes that a copy reads and writes."""
    copied_bytes: int
    """Size of what was copied: what fits into caches is copied faster."""


def quick_rates(threads: Threads, *, bytes_copied: int) -> QuickRates:
    """Measure the rates on some threads.

    Workers that have slept may share a core with their waker for some milliseconds: so the best run counts.

    Parameters
    ----------
    bytes_copied
        Size of the array to copy, such as an activation; from 64 KiB to 16 MiB are taken.
    """
    into, tasks = peak.new_sink(threads), _TASKS * threads.count
    peak.run(threads, tasks, 1, into)  # compiles
    multiplying = _least(lambda: peak.run(threads, tasks, _STEPS, into), _PEAK_RUNS)
    size = min(max(bytes_copied, _LEAST_BYTES), _MOST_BYTES)
    x, y = (aligned_zeros((size // (_FLOAT * _ROW), _ROW)) for _ in range(2))
    x[:], y[:] = 1, 2  # fresh zeros are all one page
    relu.forward(threads, x, y)
    copying = _least(lambda: relu.forward(threads, x, y), _COPIES)
    return QuickRates(peak.flops(tasks, _STEPS) / multiplying, (x.nbytes + y.nbytes) / copying, x.nbytes)


def _least(work: Callable[[], None], times: int) -> float:
    def seconds() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return min(seconds() for _ in range(times))
