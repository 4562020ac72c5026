"""The rectifier, elementwise; y may be x, and dx may be dy."""

from functools import lru_cache

from numba import float32, int64

from layers.kernels.jit import kernel
from layers.kernels.rows import IMAGE, as_rows, copy_row, floats, row_address
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads


def forward(threads: Threads, x, y) -> None:
    """Write y = max(x, 0), a NaN stays a NaN; images or vectors."""
    x, y = as_rows(x), as_rows(y)
    threads.run(_forward(), y.shape[0] * y.shape[1], y.size, x, y)


@lru_cache(maxsize=1)
def _forward():
    @kernel(int64, int64, int64, IMAGE, IMAGE)
    def relu_forward(worker, first, last, x, y):
        count = y.shape[3] * LANES
        for task in range(first, last):
            n, block = divmod(task, y.shape[1])
            for i in range(y.shape[2]):
                target = row_address(y, n, block, i)
                copy_row(target, row_address(x, n, block, i), count)
                row = floats(target)
                for e in range(count):
                    row[e] = float32(0) if row[e] <= float32(0) else row[e]  # false for NaN; -0 becomes 0

    return relu_forward


def backward_data(threads: Threads, y, dy, dx) -> None:
    """Write dx = dy where y > 0 (or NaN), else 0; images or vectors."""
    y, dy, dx = as_rows(y), as_rows(dy), as_rows(dx)
    threads.run(_backward_data(), dx.shape[0] * dx.shape[1], dx.size, y, dy, dx)


@lru_cache(maxsize=1)
def _backward_data():
    @kernel(int64, int64, int64, IMAGE, IMAGE, IMAGE)
    def relu_backward_data(worker, first, last, y, dy, dx):
        count = dx.shape[3] * LANES
        for task in range(first, last):
            n, block = divmod(task, dx.shape[1])
            for i in range(dx.shape[2]):
                target = row_address(dx, n, block, i)
                copy_row(target, row_address(dy, n, block, i), count)
                row, value = floats(target), floats(row_address(y, n, block, i))
                for e in range(count):
                    row[e] = float32(0) if value[e] <= float32(0) else row[e]

    return relu_backward_data
