# ruff: noqa: ARG001 -- the arguments of intrinsics and kernels have fixed places
"""Measure the machine beside what is timed on it: multiply-adds from registers, and memory bandwidth.

A `Gauge` runs the peak loop before and after each sample of a measurement, on the same threads, and repeats
samples in which the cores were slow: virtual cores lose their speed for seconds now and then, and a
percentage of a peak measured at another time means nothing. ``python -m bench.machine`` prints the rates.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

import numpy as np
from llvmlite import ir
from numba import float32, int64, types
from numba.core import cgutils
from numba.extending import intrinsic

from engine.host.aligned_arrays import aligned_zeros
from layers.kernels import peak as multiply_add
from layers.kernels.jit import kernel
from layers.kernels.simd import LANES, VECTOR, constant, vector_constant
from layers.kernels.threads import Threads

T = TypeVar("T")

STEPS = 600_000
"""Iterations of the peak loop in a run, on each thread: about 8 ms, of which waking the workers is little."""

PEAK_RUNS = 12

MEMORY_BYTES = 256 * 1024**2
"""Bytes of each array that the bandwidth is measured on; more than the last-level cache holds."""

COLLAPSED = 0.85
"""Share of the best peak below which a sample is repeated."""


@intrinsic
def _sum_of(typing_context, address, vectors):
    """Return a float that depends on every vector behind an address; `vectors` is a multiple of 8."""

    def codegen(_context, builder, _signature, arguments):
        address, vectors = arguments
        zero = vector_constant(0)
        slots = [cgutils.alloca_once_value(builder, zero) for _ in range(8)]
        base = builder.inttoptr(address, VECTOR.as_pointer())
        eight = constant(8)
        with cgutils.for_range(builder, builder.sdiv(vectors, eight)) as loop:
            first = builder.mul(loop.index, eight)
            for number, slot in enumerate(slots):
                place = builder.gep(base, [builder.add(first, constant(number))])
                builder.store(builder.fadd(builder.load(slot), builder.load(place, align=4)), slot)
        total = builder.load(slots[0])
        for slot in slots[1:]:
            total = builder.fadd(total, builder.load(slot))
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return types.float32(types.int64, types.int64), codegen


@lru_cache(maxsize=1)
def _read_kernel() -> Callable[..., None]:
    @kernel(int64, int64, int64, float32[:, ::1], float32[::1])
    def read_rows(worker, first, last, source, sink):
        for row in range(first, last):
            start = source.ctypes.data + row * source.strides[0]
            sink[16 * worker] = _sum_of(start, source.shape[1] // LANES)

    return read_rows


@lru_cache(maxsize=1)
def _copy_kernel() -> Callable[..., None]:
    @kernel(int64, int64, int64, float32[:, ::1], float32[:, ::1])
    def copy_rows(worker, first, last, source, target):
        for row in range(first, last):
            for i in range(source.shape[1]):
                target[row, i] = source[row, i]

    return copy_rows


@dataclass(frozen=True)
class Gated(Generic[T]):
    """The result of a call between two samples of the peak."""

    result: T
    peak: float
    """FLOP/s of the faster of the two."""
    repeated: int
    """Calls before it, thrown away."""


@dataclass(frozen=True)
class Timing:
    """The samples of one measurement."""

    seconds: tuple[float, ...]
    peaks: tuple[float, ...]
    """FLOP/s of the peak loop beside the samples."""
    repeated: int
    """Samples thrown away because the cores were slow beside them."""

    @property
    def median(self) -> float:
        """Median of the seconds."""
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        """Least of the seconds."""
        return min(self.seconds)

    @property
    def peak(self) -> float:
        """Greatest FLOP/s of the peak loop beside the samples, so that no percentage flatters."""
        return max(self.peaks)


class Gauge:
    """Measures calls, the peak and the memory on some threads.

    Attributes
    ----------
    peak : float
        FLOP/s, the best so far.
    read, copy : float
        Bytes/s of memory, measured once; a copy counts what it reads and what it writes.
    """

    def __init__(self, threads: Threads, *, memory_bytes: int = MEMORY_BYTES):
        self.threads = threads
        self._sink = np.zeros(16 * threads.count + 16, np.float32)
        self.peak = 0.0
        for _ in range(15):
            self.sample_peak()
        self.read, self.copy = self._memory(memory_bytes)

    def sample_peak(self) -> float:
        """Return the FLOP/s of multiply-adds from registers.

        The best of a few runs, at most PEAK_RUNS, counts: workers that have slept may share a core with their
        waker for tens of milliseconds.
        """
        best = 0.0
        for _ in range(PEAK_RUNS):
            best = max(best, self._run_peak())
            if best >= COLLAPSED * self.peak:
                break
        return best

    def _run_peak(self) -> float:
        tasks = 4 * self.threads.count  # a slow core takes fewer, as in the kernels
        steps = STEPS // 4
        seconds = _seconds(lambda: multiply_add.run(self.threads, tasks, steps, self._sink))
        flops = multiply_add.flops(tasks, steps)
        self.peak = max(self.peak, flops / seconds)
        return flops / seconds

    def gated(self, work: Callable[[], T], *, patience_s: float = 5.0) -> Gated[T]:
        """Call `work` between two samples of the peak, again as long as the cores are slow beside it.

        After `patience_s` the next result counts in any case.
        """
        repeated, deadline = 0, time.perf_counter() + patience_s
        while True:
            before, result, after = self.sample_peak(), work(), self.sample_peak()
            if min(before, after) >= COLLAPSED * self.peak or time.perf_counter() > deadline:
                return Gated(result, max(before, after), repeated)
            repeated += 1
            time.sleep(0.1)

    def time(
        self, work: Callable[[], object], *, samples: int = 5, seconds: float = 2.0, least_s: float = 0.002
    ) -> Timing:
        """Time `work`: up to `samples` gated samples in about `seconds`, at least one.

        A sample repeats short work until it takes `least_s`. The first two calls do not count.
        """
        timed = self.mean_of(work, least_s)
        taken: list[Gated[float]] = []
        deadline = time.perf_counter() + seconds
        while len(taken) < samples and (not taken or time.perf_counter() < deadline):
            taken.append(self.gated(timed))
        repeated = sum(sample.repeated for sample in taken)
        return Timing(tuple(s.result for s in taken), tuple(s.peak for s in taken), repeated)

    def mean_of(self, work: Callable[[], object], least_s: float) -> Callable[[], float]:
        """Return a function that gives the seconds of one call: the mean of as many as take `least_s`.

        The first two calls do not count.
        """
        work()
        calls = max(1, int(least_s / max(1e-7, _seconds(work))))
        return lambda: _seconds(lambda: [work() for _ in range(calls)]) / calls

    def _memory(self, size: int) -> tuple[float, float]:
        rows = 64 * self.threads.count
        columns = max(1, size // (4 * rows) // (8 * LANES)) * 8 * LANES
        source, target = (aligned_zeros((rows, columns)) for _ in range(2))
        source[...], target[...] = 1, 2  # fresh zeros are all one page
        read = min(
            _seconds(lambda: self.threads.run(_read_kernel(), rows, source.size, source, self._sink))
            for _ in range(5)
        )
        copy = min(
            _seconds(lambda: self.threads.run(_copy_kernel(), rows, source.size, source, target))
            for _ in range(5)
        )
        return source.nbytes / read, 2 * source.nbytes / copy


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
