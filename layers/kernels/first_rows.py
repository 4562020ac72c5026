"""What the kernels of first layers share: rows of x and weights without padded channels.

An image of 1 to 4 channels takes a whole block for each pixel. Its rows are made dense in cache, when the
first row of y needs them: there the scalars of one kernel row and one pixel of y lie side by side, as
[kernel column][channel].
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from layers.kernels.compile_time import CompileTimeType
from layers.kernels.jit import inline
from layers.kernels.matrix_tiles import LINE
from layers.kernels.register_tile import Accumulators, each_loop, each_step, integers
from layers.kernels.simd import (
    LANES,
    advance,
    constant,
    pointer_to,
    prefetch,
    store,
    store_past,
)

MOST_CHANNELS = 4
SLACK = 16  # floats behind the last row: copies of pixels write up to four at once


DENSE_BYTES = 128 * 1024  # of the dense rows of a task, which pass through the second-level cache
AHEAD_BYTES = 96 * 1024  # of the rows of x that are fetched ahead; more would leave that cache unread


def row_floats(columns: int, kernel_columns: int, stride: int, channels: int) -> int:
    """Return the floats of a dense row of x under a row of y with so many columns."""
    return ((columns - 1) * stride + kernel_columns) * channels


def band_rows(rows: int, samples: int, tasks: int, kernel_rows: int, stride: int, row: int) -> int:
    """Return the rows of y of a task: as many as its dense rows allow, but so that there are `tasks`.

    Parameters
    ----------
    row : int
        Floats of a dense row.
    """
    fit = (DENSE_BYTES // (4 * row) - kernel_rows) // stride
    return max(1, min(max(4, fit), rows * samples // tasks, rows))


def dense_floats(rows: int, kernel_rows: int, stride: int, row: int) -> int:
    """Return the size of the dense rows of x under `rows` rows of y."""
    return ((rows - 1) * stride + kernel_rows) * row + SLACK


@inline
def ahead_rows(image, stride):
    """Return how many rows of y lie between the one that is computed and that whose rows of x are fetched."""
    return max(1, AHEAD_BYTES // (stride * image.strides[2]))


@inline
def make_dense(image, n, row, last, pad_w, pixels, channels, room):
    """Write the rows of an image from `row` up to `last` to a room one behind the other; return `last`."""
    for i in range(row, last):
        source = image.ctypes.data + n * image.strides[0] + i * image.strides[2] - 4 * pad_w * LANES
        copy_channels(room, source, pixels, channels)
        room += 4 * pixels * channels
    return max(row, last)


@intrinsic
def copy_channels(typing_context, target, source, pixels, channels):
    """Copy the first `channels` of each pixel, 1 to MOST_CHANNELS, to lie side by side.

    Up to three floats behind the last one are overwritten.
    """

    def codegen(_context, builder, _signature, arguments):
        target, source, pixels, channels = arguments
        to, of = pointer_to(builder, target), pointer_to(builder, source)
        switch = builder.icmp_signed("==", channels, constant(1))
        quad = ir.VectorType(ir.FloatType(), MOST_CHANNELS)
        with builder.if_else(switch) as (one, several):
            with one, cgutils.for_range(builder, pixels) as loop:
                value = builder.load(builder.gep(of, [builder.mul(loop.index, constant(LANES))]))
                builder.store(value, builder.gep(to, [loop.index]))
            with several, cgutils.for_range(builder, pixels) as loop:
                at = builder.gep(of, [builder.mul(loop.index, constant(LANES))])
                value = builder.load(builder.bitcast(at, quad.as_pointer()), align=4)
                to_pixel = builder.gep(to, [builder.mul(loop.index, channels)])
                builder.store(value, builder.bitcast(to_pixel, quad.as_pointer()), align=4)

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def prefetch_lines(typing_context, address, lines):
    """Ask for `lines` cache lines from an address on, into the second-level cache."""

    def codegen(_context, builder, _signature, arguments):
        pointer = pointer_to(builder, arguments[0])
        with cgutils.for_range(builder, arguments[1]) as loop:
            prefetch(builder, advance(builder, pointer, loop.index, constant(LINE)), level=2)

    return types.void(types.int64, types.int64), codegen


@intrinsic
def row_tile(typing_context, tile, stream, a, b, c, bias, nest):
    """Compute one tile as `register_tile.multiply_tile` does; with `stream` it is stored past the caches.

    Parameters
    ----------
    tile : Tile
    stream : bool
        C must then be aligned to vectors.
    a : int64
        Address of the scalars.
    b : int64
        Address of the vectors, which lie side by side.
    c : Sums
    bias : int64
    nest : tuple of Loop
        Outermost first.
    """
    if not isinstance(tile, CompileTimeType):
        return None
    shape = tile.value

    def codegen(context, builder, signature, arguments):
        stream, a, b = arguments[1:4]
        c_at, c_row, c_vector = integers(context, builder, signature.args[4], arguments[4])
        bias = pointer_to(builder, arguments[5])
        loops = each_loop(context, builder, signature.args[6], arguments[6])
        sums = Accumulators(builder, shape.rows, shape.vectors)

        def step(a: ir.Value, b: ir.Value) -> None:
            sums.multiply_add(a, shape.a_row, b, constant(LANES))

        sums.begin_at(shape.start, bias)
        each_step(builder, loops, [pointer_to(builder, a), pointer_to(builder, b)], step)
        target = pointer_to(builder, c_at)
        totals = list(sums.totals(shape.start))

        def offset(row: int, v: int) -> ir.Value:
            return builder.add(builder.mul(c_row, constant(row)), builder.mul(c_vector, constant(v)))

        with builder.if_else(stream) as (past, into):
            for branch, put in ((past, store_past), (into, store)):
                with branch:
                    for row, v, total in totals:
                        put(builder, total, target, offset(row, v))

    return types.void(tile, types.boolean, types.int64, types.int64, c, types.int64, nest), codegen
