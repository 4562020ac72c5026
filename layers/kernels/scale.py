"""Products of images with a vector each, a factor for every channel, and their gradients; with a constant."""

from functools import lru_cache

import numpy as np
from numba import float32, int64, types
from numba.core import cgutils
from numba.extending import intrinsic

from layers.kernels.jit import kernel
from layers.kernels.rows import IMAGE, as_channels, as_rows, copy_row, floats, row_address
from layers.kernels.simd import LANES, VECTOR, constant, load_vector, store_vector, vector_constant
from layers.kernels.threads import Threads

_NOWHERE = constant(0)  # from an address


def forward(threads: Threads, x, factors, y) -> None:
    """Write y = x * factors.

    Parameters
    ----------
    x, y : float32 [N, C/LANES, H, W, LANES]
    factors : float32 [N, C rounded up to LANES], or images of one pixel
    """
    threads.run(_forward(), y.shape[0] * y.shape[1], y.size, x, as_channels(factors), y)


@lru_cache(maxsize=1)
def _forward():
    @kernel(int64, int64, int64, IMAGE, IMAGE, IMAGE)
    def scale_forward(worker, first, last, x, factors, y):
        for task in range(first, last):  # one plane of one block of channels
            n, block = divmod(task, y.shape[1])
            factor = row_address(factors, n, block, 0)
            for i in range(y.shape[2]):
                source, target = row_address(x, n, block, i), row_address(y, n, block, i)
                _multiply_row(source, factor, target, y.shape[3])

    return scale_forward


@intrinsic
def _multiply_row(typing_context, source, factor, target, columns):
    def codegen(_context, builder, _signature, arguments):
        source, factor, target, columns = arguments
        factor = load_vector(builder, factor, _NOWHERE)
        with cgutils.for_range(builder, columns) as column:
            place = builder.mul(column.index, constant(LANES))
            store_vector(builder, builder.fmul(load_vector(builder, source, place), factor), target, place)

    return types.void(*[types.int64] * 4), codegen


def multiply(threads: Threads, x, factor: float, y) -> None:
    """Write y = factor * x; images or vectors, and y may be x."""
    x, y = as_rows(x), as_rows(y)
    threads.run(_multiply(), y.shape[0] * y.shape[1], y.size, np.float32(factor), x, y)


@lru_cache(maxsize=1)
def _multiply():
    @kernel(int64, int64, int64, float32, IMAGE, IMAGE)
    def multiply_by_constant(worker, first, last, factor, x, y):
        count = y.shape[3] * LANES
        for task in range(first, last):
            n, block = divmod(task, y.shape[1])
            for i in range(y.shape[2]):
                target = row_address(y, n, block, i)
                copy_row(target, row_address(x, n, block, i), count)
                row = floats(target)
                for e in range(count):
                    row[e] = factor * row[e]

    return multiply_by_constant


def backward_data(threads: Threads, x, factors, dy, dx, dfactors) -> None:
    """Write dx = dy * factors, and the sums of dy * x over the pixels.

    A row's products are summed, then the sums of the rows, both in order: see `adaptive_pool`.
    """
    factors, dfactors = as_channels(factors), as_channels(dfactors)
    threads.run(_backward_data(), dx.shape[0] * dx.shape[1], 2 * dx.size, x, factors, dy, dx, dfactors)


@lru_cache(maxsize=1)
def _backward_data():
    @kernel(int64, int64, int64, IMAGE, IMAGE, IMAGE, IMAGE, IMAGE)
    def scale_backward_data(worker, first, last, x, factors, dy, dx, dfactors):
        for task in range(first, last):  # one plane of one block of channels
            n, block = divmod(task, dx.shape[1])
            _plane(
                row_address(x, n, block, 0), x.strides[2], row_address(factors, n, block, 0),
                row_address(dy, n, block, 0), dy.strides[2], row_address(dx, n, block, 0), dx.strides[2],
                row_address(dfactors, n, block, 0), dx.shape[2], dx.shape[3],
            )  # fmt: skip

    return scale_backward_data


@intrinsic
def _plane(typing_context, x, x_row, factor, dy, dy_row, dx, dx_row, dfactor, rows, columns):
    """Write one plane of dx, and the gradient of its factors; addresses, and distances of rows in bytes."""

    def codegen(_context, builder, _signature, arguments):
        x, x_row, factor, dy, dy_row, dx, dx_row, dfactor, rows, columns = arguments
        factor = load_vector(builder, factor, _NOWHERE)
        total, of_row = (cgutils.alloca_once(builder, VECTOR) for _ in range(2))
        builder.store(vector_constant(0), total)
        with cgutils.for_range(builder, rows) as row:
            x_at, dy_at, dx_at = (
                builder.add(at, builder.mul(row.index, step))
                for at, step in ((x, x_row), (dy, dy_row), (dx, dx_row))
            )
            builder.store(vector_constant(0), of_row)
            with cgutils.for_range(builder, columns) as column:
                place = builder.mul(column.index, constant(LANES))
                given = load_vector(builder, dy_at, place)
                store_vector(builder, builder.fmul(given, factor), dx_at, place)
                term = builder.fmul(given, load_vector(builder, x_at, place))
                builder.store(builder.fadd(builder.load(of_row), term), of_row)
            builder.store(builder.fadd(builder.load(total), builder.load(of_row)), total)
        store_vector(builder, builder.load(total), dfactor, _NOWHERE)

    return types.void(*[types.int64] * 10), codegen
