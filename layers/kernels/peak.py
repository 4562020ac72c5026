"""Multiply-adds from registers: the most that a core can do, beside which kernels are measured."""

from functools import lru_cache

import numpy as np
from llvmlite import ir
from numba import float32, int64, types
from numba.core import cgutils
from numba.extending import intrinsic

from layers.kernels.jit import kernel
from layers.kernels.simd import LANES, REGISTERS_EACH, multiply_add, splat
from layers.kernels.target import TARGET
from layers.kernels.threads import Threads

ACCUMULATORS = (24 if TARGET.registers == 32 else 12) // REGISTERS_EACH
"""Independent sums: enough to hide the multiply-add's latency on every port, few enough for the registers."""

_LINE = 16  # floats of a cache line, so that no two workers write one


def new_sink(threads: Threads):
    """Return where `run` leaves what it computes, float32."""
    return np.zeros(_LINE * (threads.count + 1), np.float32)


def flops(tasks: int, steps: int) -> int:
    """Return the FLOP of `run`, a multiply-add as two."""
    return 2 * LANES * ACCUMULATORS * steps * tasks


def run(threads: Threads, tasks: int, steps: int, into) -> None:
    """Do `steps` multiply-adds of all accumulators in each task; `into` is a `new_sink`."""
    threads.run(_peak_kernel(), tasks, flops(tasks, steps), steps, 0.5, into)


@lru_cache(maxsize=1)
def _peak_kernel():
    @kernel(int64, int64, int64, int64, float32, float32[::1])
    def run_multiply_adds(worker, first, last, steps, start, sink):
        for _ in range(first, last):
            sink[_LINE * worker] = _multiply_adds(steps, start)

    return run_multiply_adds


@intrinsic
def _multiply_adds(typing_context, steps, start):
    """Return a sum that depends on ``steps * ACCUMULATORS`` vector multiply-adds."""

    def codegen(_context, builder, _signature, arguments):
        steps, start = arguments
        factor = splat(builder, start)
        slots = [cgutils.alloca_once_value(builder, factor) for _ in range(ACCUMULATORS)]
        with cgutils.for_range(builder, steps):
            for slot in slots:
                builder.store(multiply_add(builder, builder.load(slot), factor, factor), slot)
        total = builder.load(slots[0])
        for slot in slots[1:]:
            total = builder.fadd(total, builder.load(slot))
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return types.float32(types.int64, types.float32), codegen
