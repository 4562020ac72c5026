"""Mean over windows that divide an image into so many rows and columns, as evenly as they can.

A window is summed row by row, and the sums of its rows are added in order: the longest chain is a row and a
column long, not the whole image, so that the mean of a large map stays accurate.
"""

from functools import lru_cache

from numba import float32, int64, types
from numba.core import cgutils
from numba.extending import intrinsic

from layers.arithmetic import ceil_div
from layers.kernels.jit import inline, kernel
from layers.kernels.rows import IMAGE, as_channels, floats, row_address
from layers.kernels.simd import LANES, VECTOR, constant, load_vector, splat, store_vector, vector_constant
from layers.kernels.threads import Threads

_NOWHERE = constant(0)  # from an address


def forward(threads: Threads, x, y) -> None:
    """Write the means.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES]
    y : float32 [N, C/LANES, OH, OW, LANES], or vectors, which are the means of whole images
    """
    y = as_channels(y)
    threads.run(_forward(), y.shape[0] * y.shape[1], x.size, x, y)


@inline
def _window(i, outputs, size):
    """Return where window `i` begins, and where it ends; neighbours overlap where the sizes do not divide.

    With the sizes exchanged: the windows that hold element `i`; the first ends behind it, the last begins at
    it or before.
    """
    return i * size // outputs, ceil_div((i + 1) * size, outputs)


@lru_cache(maxsize=1)
def _forward():
    @kernel(int64, int64, int64, IMAGE, IMAGE)
    def adaptive_pool_forward(worker, first, last, x, y):
        _, blocks, rows, columns, _ = y.shape
        height, width = x.shape[2], x.shape[3]
        for task in range(first, last):  # one plane of one block of channels
            n, block = divmod(task, blocks)
            for i in range(rows):
                top, bottom = _window(i, rows, height)
                source, target = row_address(x, n, block, top), row_address(y, n, block, i)
                for j in range(columns):
                    left, right = _window(j, columns, width)
                    high, wide = bottom - top, right - left
                    at = source + 4 * left * LANES
                    _mean(at, high, x.strides[2], wide, float32(high * wide), target + 4 * j * LANES)

    return adaptive_pool_forward


@intrinsic
def _mean(typing_context, source, rows, row_bytes, columns, divisor, target):
    """Write the sum of the sums of `rows` rows of `columns` vectors, divided by `divisor`."""

    def codegen(_context, builder, _signature, arguments):
        source, rows, row_bytes, columns, divisor, target = arguments
        total, of_row = (cgutils.alloca_once(builder, VECTOR) for _ in range(2))
        builder.store(vector_constant(0), total)
        with cgutils.for_range(builder, rows) as row:
            at = builder.add(source, builder.mul(row.index, row_bytes))
            builder.store(vector_constant(0), of_row)
            with cgutils.for_range(builder, columns) as column:
                value = load_vector(builder, at, builder.mul(column.index, constant(LANES)))
                builder.store(builder.fadd(builder.load(of_row), value), of_row)
            builder.store(builder.fadd(builder.load(total), builder.load(of_row)), total)
        mean = builder.fdiv(builder.load(total), splat(builder, divisor))
        store_vector(builder, mean, target, _NOWHERE)

    kinds = [types.int64] * 4 + [types.float32, types.int64]
    return types.void(*kinds), codegen


def backward_data(threads: Threads, dy, dx) -> None:
    """Write dx: for each input the sum over its windows, in order, of dy divided by the window's size."""
    threads.run(_backward_data(), dx.shape[0] * dx.shape[1], dx.size, as_channels(dy), dx)


@lru_cache(maxsize=1)
def _backward_data():
    @kernel(int64, int64, int64, IMAGE, IMAGE)
    def adaptive_pool_backward_data(worker, first, last, dy, dx):
        _, blocks, height, width, _ = dx.shape
        rows, columns = dy.shape[2], dy.shape[3]
        for task in range(first, last):  # one plane of one block of channels
            n, block = divmod(task, blocks)
            for h in range(height):
                target = row_address(dx, n, block, h)
                if rows * columns == 1:
                    _share(row_address(dy, n, block, 0), float32(height * width), target, width)
                    continue
                i0, i1 = _window(h, height, rows)
                to = floats(target)
                for w in range(width):
                    j0, j1 = _window(w, width, columns)
                    for lane in range(LANES):
                        to[w * LANES + lane] = float32(0)
                    for i in range(i0, i1):
                        of = floats(row_address(dy, n, block, i))
                        top, bottom = _window(i, rows, height)
                        for j in range(j0, j1):
                            left, right = _window(j, columns, width)
                            size = float32((bottom - top) * (right - left))
                            for lane in range(LANES):
                                to[w * LANES + lane] += of[j * LANES + lane] / size

    return adaptive_pool_backward_data


@intrinsic
def _share(typing_context, source, divisor, target, columns):
    """Write a vector divided by `divisor` into `columns` pixels."""

    def codegen(_context, builder, _signature, arguments):
        source, divisor, target, columns = arguments
        share = builder.fdiv(load_vector(builder, source, _NOWHERE), splat(builder, divisor))
        share = builder.fadd(share, vector_constant(0))  # -0 becomes +0, as in a sum over windows
        with cgutils.for_range(builder, columns) as column:
            store_vector(builder, share, target, builder.mul(column.index, constant(LANES)))

    return types.void(types.int64, types.float32, types.int64, types.int64), codegen
