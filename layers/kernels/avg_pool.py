"""Mean over windows inside the image; overlapping windows are summed in order."""

from functools import lru_cache

from numba import float32, int64, types
from numba.core import cgutils
from numba.extending import intrinsic

from layers.kernels.jit import kernel
from layers.kernels.rows import IMAGE, row_address
from layers.kernels.simd import LANES, VECTOR, constant, splat, vector_constant
from layers.kernels.threads import Threads
from layers.kernels.windows import covering


def forward(threads: Threads, x, y, window: tuple[int, int], stride: int) -> None:
    """Write the means, each a sum over (row, column) of the window, in that order.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES]
    y : float32 [N, C/LANES, OH, OW, LANES]
    """
    work = y.size * window[0] * window[1]
    threads.run(_forward(), y.shape[0] * y.shape[1], work, x, y, *window, stride)


@lru_cache(maxsize=1)
def _forward():
    @kernel(int64, int64, int64, IMAGE, IMAGE, int64, int64, int64)
    def avg_pool_forward(worker, first, last, x, y, r, s, stride):
        _, blocks, rows, columns, _ = y.shape
        for task in range(first, last):  # one plane of one block of channels
            n, block = divmod(task, blocks)
            for i in range(rows):
                source, target = row_address(x, n, block, i * stride), row_address(y, n, block, i)
                for j in range(columns):
                    at = source + 4 * j * stride * LANES
                    _window_mean(at, r, x.strides[2], s, float32(r * s), target + 4 * j * LANES)

    return avg_pool_forward


def backward_data(threads: Threads, dy, dx, window: tuple[int, int], stride: int) -> None:
    """Write dx: for each input the sum of dy over its windows, in order, divided by the window's size."""
    work = dy.size * window[0] * window[1]
    threads.run(_backward_data(), dx.shape[0] * dx.shape[1], work, dy, dx, *window, stride)


@lru_cache(maxsize=1)
def _backward_data():
    @kernel(int64, int64, int64, IMAGE, IMAGE, int64, int64, int64)
    def avg_pool_backward_data(worker, first, last, dy, dx, r, s, stride):
        _, blocks, height, width, _ = dx.shape
        rows, columns = dy.shape[2], dy.shape[3]
        for task in range(first, last):  # one plane of one block of channels
            n, block = divmod(task, blocks)
            for h in range(height):
                i0, i1, _ = covering(h, r, stride, 0, rows)
                source, target = row_address(dy, n, block, i0), row_address(dx, n, block, h)
                for w in range(width):
                    j0, j1, _ = covering(w, s, stride, 0, columns)
                    at = source + 4 * j0 * LANES
                    _window_mean(at, i1 - i0, dy.strides[2], j1 - j0, float32(r * s), target + 4 * w * LANES)

    return avg_pool_backward_data


@intrinsic
def _window_mean(typing_context, source, rows, row_bytes, columns, divisor, target):
    """Write the sum of rows x columns adjacent vectors, divided by `divisor`."""

    def codegen(_context, builder, _signature, arguments):
        source, rows, row_bytes, columns, divisor, target = arguments
        total = cgutils.alloca_once(builder, VECTOR)
        builder.store(vector_constant(0), total)
        with cgutils.for_range(builder, rows) as row, cgutils.for_range(builder, columns) as column:
            offset = builder.add(
                builder.mul(row.index, row_bytes),
                builder.mul(column.index, constant(4 * LANES)),
            )
            pointer = builder.inttoptr(builder.add(source, offset), VECTOR.as_pointer())
            builder.store(builder.fadd(builder.load(total), builder.load(pointer, align=4)), total)
        mean = builder.fdiv(builder.load(total), splat(builder, divisor))
        builder.store(mean, builder.inttoptr(target, VECTOR.as_pointer()), align=4)

    signature = [types.int64] * 4 + [types.float32, types.int64]
    return types.void(*signature), codegen
