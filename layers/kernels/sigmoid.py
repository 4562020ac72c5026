"""The logistic function, elementwise; y may be x, and dx may be dy."""

from functools import lru_cache

import numpy as np
from numba import int64

from layers.kernels.exponential import exp_nonpositive
from layers.kernels.jit import inline, kernel
from layers.kernels.rows import IMAGE, as_rows, copy_row, floats, row_address
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads

_ZERO, _ONE = np.float32(0), np.float32(1)


def forward(threads: Threads, x, y) -> None:
    """Write y = 1 / (1 + exp(-x)); images or vectors. Padded lanes become 1/2."""
    x, y = as_rows(x), as_rows(y)
    threads.run(_forward(), y.shape[0] * y.shape[1], 16 * y.size, x, y)


@lru_cache(maxsize=1)
def _forward():
    @kernel(int64, int64, int64, IMAGE, IMAGE)
    def sigmoid_forward(worker, first, last, x, y):
        count = y.shape[3] * LANES
        for task in range(first, last):
            n, block = divmod(task, y.shape[1])
            for i in range(y.shape[2]):
                target = row_address(y, n, block, i)
                copy_row(target, row_address(x, n, block, i), count)
                row = floats(target)
                for e in range(count):
                    row[e] = logistic(row[e])

    return sigmoid_forward


@inline
def logistic(x):
    """Return 1 / (1 + exp(-x)) of a float32, of an exponential that cannot overflow."""
    small = exp_nonpositive(-abs(x))
    return (small if x < _ZERO else _ONE) / (_ONE + small)


def backward_data(threads: Threads, y, dy, dx) -> None:
    """Write dx = dy * y * (1 - y); images or vectors."""
    y, dy, dx = as_rows(y), as_rows(dy), as_rows(dx)
    threads.run(_backward_data(), dx.shape[0] * dx.shape[1], dx.size, y, dy, dx)


@lru_cache(maxsize=1)
def _backward_data():
    @kernel(int64, int64, int64, IMAGE, IMAGE, IMAGE)
    def sigmoid_backward_data(worker, first, last, y, dy, dx):
        count = dx.shape[3] * LANES
        for task in range(first, last):
            n, block = divmod(task, dx.shape[1])
            for i in range(dx.shape[2]):
                target = row_address(dx, n, block, i)
                copy_row(target, row_address(dy, n, block, i), count)
                row, value = floats(target), floats(row_address(y, n, block, i))
                for e in range(count):
                    row[e] = row[e] * (value[e] * (_ONE - value[e]))

    return sigmoid_backward_data
