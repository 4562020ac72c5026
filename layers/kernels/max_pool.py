"""Maximum over windows: any size, stride and padding; overlapping windows are summed in order."""

from functools import lru_cache

from numba import int64, types
from numba.core import cgutils
from numba.extending import intrinsic

from layers.kernels.epilogue import BYTES, TAPS, load_bytes, splat_byte, store_bytes, wins
from layers.kernels.jit import kernel
from layers.kernels.rows import IMAGE, row_address
from layers.kernels.simd import LANES, VECTOR, constant, load_vector, store_vector, vector_constant
from layers.kernels.threads import Threads
from layers.kernels.windows import covered, covering

_NOWHERE = constant(0)  # from an address


def forward(threads: Threads, x, y, argmax, window: tuple[int, int], stride: int, padding: int) -> None:
    """Write the maxima and their taps; the first of equals wins, and any NaN.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES]
    y : float32 [N, C/LANES, OH, OW, LANES]
    argmax : uint8 [N, C/LANES, OH, OW, LANES]
        Tap of the maximum, ``u * window[1] + v``. Taps outside the image never win.
    """
    work = y.size * window[0] * window[1]
    threads.run(_forward(), y.shape[0] * y.shape[1], work, x, y, argmax, *window, stride, padding)


@lru_cache(maxsize=1)
def _forward():
    @kernel(int64, int64, int64, IMAGE, IMAGE, TAPS, int64, int64, int64, int64)
    def max_pool_forward(worker, first, last, x, y, argmax, r, s, stride, padding):
        _, blocks, rows, columns, _ = y.shape
        height, width = x.shape[2], x.shape[3]
        for task in range(first, last):  # one plane of one block of channels
            n, block = divmod(task, blocks)
            for i in range(rows):
                u0, u1, top = covered(i, r, stride, padding, height)
                source, target = row_address(x, n, block, top), row_address(y, n, block, i)
                where = row_address(argmax, n, block, i)
                for j in range(columns):
                    v0, v1, left = covered(j, s, stride, padding, width)
                    _maximum(
                        source + 4 * left * LANES, u1 - u0, x.strides[2], v1 - v0, u0 * s + v0, s,
                        target + 4 * j * LANES, where + j * LANES,
                    )  # fmt: skip

    return max_pool_forward


def backward_data(
    threads: Threads, dy, argmax, dx, window: tuple[int, int], stride: int, padding: int
) -> None:
    """Write dx: for each input the sum of dy over the windows it won, in order of the windows."""
    threads.run(
        _backward_data(), dx.shape[0] * dx.shape[1], dx.size, dy, argmax, dx, *window, stride, padding
    )


@lru_cache(maxsize=1)
def _backward_data():
    @kernel(int64, int64, int64, IMAGE, TAPS, IMAGE, int64, int64, int64, int64)
    def max_pool_backward_data(worker, first, last, dy, argmax, dx, r, s, stride, padding):
        _, blocks, height, width, _ = dx.shape
        rows, columns = dy.shape[2], dy.shape[3]
        for task in range(first, last):  # one plane of one block of channels
            n, block = divmod(task, blocks)
            for h in range(height):
                i0, i1, u = covering(h, r, stride, padding, rows)
                source, where = row_address(dy, n, block, i0), row_address(argmax, n, block, i0)
                target = row_address(dx, n, block, h)
                for w in range(width):
                    j0, j1, v = covering(w, s, stride, padding, columns)
                    _gather(
                        source + 4 * j0 * LANES, dy.strides[2], where + j0 * LANES, argmax.strides[2],
                        i1 - i0, j1 - j0, u * s + v, stride * s, stride, target + 4 * w * LANES,
                    )  # fmt: skip

    return max_pool_backward_data


@intrinsic
def _maximum(typing_context, x, rows, x_row, columns, tap, tap_row, y, argmax):
    """Write the vector of maxima of a window, and their taps.

    Parameters
    ----------
    x, y, argmax : int64
        Addresses of the first pixel covered, and of the results.
    rows, columns : int64
        Pixels covered; `x_row` is the distance of rows in bytes.
    tap, tap_row : int64
        Number of the first tap; distance of the numbers of rows.
    """

    def codegen(_context, builder, _signature, arguments):
        x, rows, x_row, columns, tap, tap_row, y, argmax = arguments
        best, where = cgutils.alloca_once(builder, VECTOR), cgutils.alloca_once(builder, BYTES)
        builder.store(vector_constant(float("-inf")), best)
        builder.store(splat_byte(builder, tap), where)
        with cgutils.for_range(builder, rows) as row, cgutils.for_range(builder, columns) as column:
            at = builder.add(x, builder.mul(row.index, x_row))
            value = load_vector(builder, builder.add(at, _pixels(builder, column.index)), _NOWHERE)
            number = builder.add(builder.add(tap, builder.mul(row.index, tap_row)), column.index)
            old = builder.load(best)
            better = wins(builder, value, old)
            builder.store(builder.select(better, value, old), best)
            builder.store(builder.select(better, splat_byte(builder, number), builder.load(where)), where)
        store_vector(builder, builder.load(best), y, _NOWHERE)
        store_bytes(builder, builder.load(where), argmax)

    return types.void(*[types.int64] * 8), codegen


@intrinsic
def _gather(typing_context, dy, dy_row, argmax, argmax_row, rows, columns, tap, tap_row, tap_column, dx):
    """Write the vector of sums of dy over the windows in which this input won.

    Parameters
    ----------
    dy, argmax, dx : int64
        Addresses: of the first window, and of the result.
    rows, columns : int64
        Windows that cover the input; `dy_row`, `argmax_row` are distances of rows in bytes.
    tap, tap_row, tap_column : int64
        Its tap in the first window, and by how much that falls with each row and column of windows.
    """

    def codegen(_context, builder, _signature, arguments):
        dy, dy_row, argmax, argmax_row, rows, columns, tap, tap_row, tap_column, dx = arguments
        zero = vector_constant(0)
        total = cgutils.alloca_once(builder, VECTOR)
        builder.store(zero, total)
        with cgutils.for_range(builder, rows) as row, cgutils.for_range(builder, columns) as column:
            dy_at = builder.add(
                builder.add(dy, builder.mul(row.index, dy_row)), _pixels(builder, column.index)
            )
            lanes = builder.mul(column.index, constant(LANES))
            where_at = builder.add(builder.add(argmax, builder.mul(row.index, argmax_row)), lanes)
            fallen = builder.add(builder.mul(row.index, tap_row), builder.mul(column.index, tap_column))
            number = splat_byte(builder, builder.sub(tap, fallen))
            won = builder.icmp_unsigned("==", load_bytes(builder, where_at), number)
            term = builder.select(won, load_vector(builder, dy_at, _NOWHERE), zero)
            builder.store(builder.fadd(builder.load(total), term), total)
        store_vector(builder, builder.load(total), dx, _NOWHERE)

    return types.void(*[types.int64] * 10), codegen


def _pixels(builder, count):
    return builder.mul(count, constant(4 * LANES))
