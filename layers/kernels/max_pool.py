"""Maximum over windows: any size, stride and padding; overlapping windows are summed in order."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from numba import int64, types
from numba.core import cgutils
from numba.extending import intrinsic

from layers.arithmetic import ceil_div
from layers.kernels.compile_time import CompileTime, CompileTimeType
from layers.kernels.epilogue import BYTES, TAPS, load_bytes, splat_byte, store_bytes, wins
from layers.kernels.jit import kernel
from layers.kernels.register_tile import integers
from layers.kernels.rows import IMAGE, row_address
from layers.kernels.simd import LANES, VECTOR, constant, load_vector, store_vector, vector_constant
from layers.kernels.threads import Threads
from layers.kernels.windows import covered, covering

_NOWHERE = constant(0)  # from an address
MOST_WRITTEN_OUT = 9  # windows over one input whose code has no loops


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
    run = _forward(*window, stride)
    threads.run(run, y.shape[0] * y.shape[1], work, x, y, argmax, padding)


@dataclass(frozen=True)
class Windows(CompileTime):
    """Rows and columns of a window, or of the windows over an input; -1: known at run time only."""

    rows: int
    columns: int


ANY = Windows(-1, -1)


@lru_cache
def _forward(R, S, STRIDE):
    FIXED = R * S <= MOST_WRITTEN_OUT
    WHOLE = Windows(R, S) if FIXED else ANY

    @kernel(int64, int64, int64, IMAGE, IMAGE, TAPS, int64)
    def max_pool_forward(worker, first, last, x, y, argmax, padding):
        _, blocks, rows, columns, _ = y.shape
        height, width = x.shape[2], x.shape[3]
        for task in range(first, last):  # one plane of one block of channels
            n, block = divmod(task, blocks)
            for i in range(rows):
                u0, u1, top = covered(i, R, STRIDE, padding, height)
                source, target = row_address(x, n, block, top), row_address(y, n, block, i)
                where = row_address(argmax, n, block, i)
                for j in range(columns):
                    v0, v1, left = covered(j, S, STRIDE, padding, width)
                    pixels = Taken(source + 4 * left * LANES, x.strides[2])
                    tap = Tap(u0 * S + v0, S, 1)
                    best, place = target + 4 * j * LANES, where + j * LANES
                    if FIXED and u1 - u0 == R and v1 - v0 == S:
                        _maximum(WHOLE, pixels, u1 - u0, v1 - v0, tap, best, place)
                    else:
                        _maximum(ANY, pixels, u1 - u0, v1 - v0, tap, best, place)

    return max_pool_forward


def backward_data(
    threads: Threads, dy, argmax, dx, window: tuple[int, int], stride: int, padding: int
) -> None:
    """Write dx: for each input the sum of dy over the windows it won, in order of the windows."""
    run = _backward_data(*window, stride)
    threads.run(run, dx.shape[0] * dx.shape[1], dx.size, dy, argmax, dx, padding)


@lru_cache
def _backward_data(R, S, STRIDE):
    # Inside an image an input lies in so many rows and columns of windows, or in one less:
    HIGH, WIDE = ceil_div(R, STRIDE), ceil_div(S, STRIDE)
    FIXED = HIGH * WIDE <= MOST_WRITTEN_OUT
    MOST, LESS_WIDE, LESS_HIGH, LEAST = (
        Windows(HIGH - less_high, WIDE - less_wide) if FIXED else ANY
        for less_high in (0, 1)
        for less_wide in (0, 1)
    )

    @kernel(int64, int64, int64, IMAGE, TAPS, IMAGE, int64)
    def max_pool_backward_data(worker, first, last, dy, argmax, dx, padding):
        _, blocks, height, width, _ = dx.shape
        rows, columns = dy.shape[2], dy.shape[3]
        for task in range(first, last):  # one plane of one block of channels
            n, block = divmod(task, blocks)
            for h in range(height):
                i0, i1, u = covering(h, R, STRIDE, padding, rows)
                source, where = row_address(dy, n, block, i0), row_address(argmax, n, block, i0)
                target = row_address(dx, n, block, h)
                high = i1 - i0
                for w in range(width):
                    j0, j1, v = covering(w, S, STRIDE, padding, columns)
                    wide = j1 - j0
                    values = Taken(source + 4 * j0 * LANES, dy.strides[2])
                    taps = Taken(where + j0 * LANES, argmax.strides[2])
                    tap = Tap(u * S + v, STRIDE * S, STRIDE)
                    pixel = target + 4 * w * LANES
                    if FIXED and high == HIGH and wide == WIDE:
                        _gather(MOST, values, taps, high, wide, tap, pixel)
                    elif FIXED and high == HIGH and wide == WIDE - 1:
                        _gather(LESS_WIDE, values, taps, high, wide, tap, pixel)
                    elif FIXED and high == HIGH - 1 and wide == WIDE:
                        _gather(LESS_HIGH, values, taps, high, wide, tap, pixel)
                    elif FIXED and high == HIGH - 1 and wide == WIDE - 1:
                        _gather(LEAST, values, taps, high, wide, tap, pixel)
                    else:
                        _gather(ANY, values, taps, high, wide, tap, pixel)

    return max_pool_backward_data


class Taken(NamedTuple):
    """Address of the first pixel, or of what belongs to the first window; distance of rows in bytes."""

    address: int
    row: int


class Tap(NamedTuple):
    """The first tap; the distance of taps from row to row and column to column, of a window or of windows.

    An input's tap falls by it from one window to the next.
    """

    first: int
    row: int
    column: int


@intrinsic
def _maximum(typing_context, window, x, rows, columns, tap, y, argmax):
    """Write the vector of maxima of a window, and their taps.

    Parameters
    ----------
    window : Windows
        Rows and columns covered, where they are known; else `rows` and `columns` are.
    x : Taken
    tap : Tap
    y, argmax : int64
        Addresses of the results.
    """
    if not isinstance(window, CompileTimeType):
        return None
    known = window.value

    def codegen(context, builder, signature, arguments):
        kinds = signature.args
        (x, x_row), (tap, tap_row, _) = (
            integers(context, builder, kinds[place], arguments[place]) for place in (1, 4)
        )

        def better_of(best, where, row, column):
            at = builder.add(x, builder.mul(row, x_row))
            value = load_vector(builder, builder.add(at, _pixels(builder, column)), _NOWHERE)
            number = builder.add(builder.add(tap, builder.mul(row, tap_row)), column)
            better = wins(builder, value, best)
            return (
                builder.select(better, value, best),
                builder.select(better, splat_byte(builder, number), where),
            )

        best, where = vector_constant(float("-inf")), splat_byte(builder, tap)
        if known.rows < 0:
            slots = cgutils.alloca_once(builder, VECTOR), cgutils.alloca_once(builder, BYTES)
            _store_each(builder, (best, where), slots)
            with (
                cgutils.for_range(builder, arguments[2]) as row,
                cgutils.for_range(builder, arguments[3]) as column,
            ):
                before = map(builder.load, slots)
                _store_each(builder, better_of(*before, row.index, column.index), slots)
            best, where = map(builder.load, slots)
        else:
            for row in range(known.rows):
                for column in range(known.columns):
                    best, where = better_of(best, where, constant(row), constant(column))
        store_vector(builder, best, arguments[5], _NOWHERE)
        store_bytes(builder, where, arguments[6])

    kinds = [window, x, types.int64, types.int64, tap, types.int64, types.int64]
    return types.void(*kinds), codegen


def _store_each(builder, values, slots):
    for value, slot in zip(values, slots, strict=True):
        builder.store(value, slot)


@intrinsic
def _gather(typing_context, windows, dy, argmax, rows, columns, tap, dx):
    """Write the vector of sums of dy over the windows in which this input won.

    Parameters
    ----------
    windows : Windows
        Rows and columns of them, where they are known; else `rows` and `columns` are.
    dy, argmax : Taken
    tap : Tap
    dx : int64
        Address of the result.
    """
    if not isinstance(windows, CompileTimeType):
        return None
    known = windows.value

    def codegen(context, builder, signature, arguments):
        kinds = signature.args
        (dy, dy_row), (argmax, argmax_row), (tap, tap_row, tap_column) = (
            integers(context, builder, kinds[place], arguments[place]) for place in (1, 2, 5)
        )
        zero = vector_constant(0)

        def term(row, column):
            dy_at = builder.add(builder.add(dy, builder.mul(row, dy_row)), _pixels(builder, column))
            lanes = builder.mul(column, constant(LANES))
            where_at = builder.add(builder.add(argmax, builder.mul(row, argmax_row)), lanes)
            fallen = builder.add(builder.mul(row, tap_row), builder.mul(column, tap_column))
            number = splat_byte(builder, builder.sub(tap, fallen))
            won = builder.icmp_unsigned("==", load_bytes(builder, where_at), number)
            return builder.select(won, load_vector(builder, dy_at, _NOWHERE), zero)

        if known.rows < 0:
            slot = cgutils.alloca_once(builder, VECTOR)
            builder.store(zero, slot)
            with (
                cgutils.for_range(builder, arguments[3]) as row,
                cgutils.for_range(builder, arguments[4]) as column,
            ):
                builder.store(builder.fadd(builder.load(slot), term(row.index, column.index)), slot)
            total = builder.load(slot)
        else:
            total = zero
            for row in range(known.rows):
                for column in range(known.columns):
                    total = builder.fadd(total, term(constant(row), constant(column)))
        store_vector(builder, total, arguments[6], _NOWHERE)

    signature = types.void(windows, dy, argmax, types.int64, types.int64, tap, types.int64)
    return signature, codegen


def _pixels(builder, count):
    return builder.mul(count, constant(4 * LANES))
