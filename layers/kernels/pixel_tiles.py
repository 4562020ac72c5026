"""Register tiles of 1x1 convolutions, and copies of pixels: rows of a tile are pixels at places of their own.

A place is the distance of a pixel from the start of its array in bytes; a table holds one, an int64, for each
row of a tile. So a tile may go on over the end of an image's row, and pixels may lie `stride` apart.
"""

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from layers.kernels.compile_time import CompileTimeType
from layers.kernels.matrix_tiles import prefetch_vectors
from layers.kernels.register_tile import (
    APART,
    JOINED_RECTIFIED,
    LOAD,
    LOAD_RELU,
    Accumulators,
    advanced,
    at_once,
    each_loop,
    each_part,
    each_step,
    integers,
)
from layers.kernels.simd import (
    LANES,
    advance,
    constant,
    load,
    pointer_to,
    prefetch,
    store,
    vector_constant,
)

_WORD = ir.IntType(64)


def in_place(image: Any) -> bool:
    """Return whether the pixels of each block of an image lie side by side: no halo parts its rows."""
    _, _, rows, columns, _ = image.shape
    return bool(rows == 1 or image.strides[2] == columns * image.strides[3])


class Places(NamedTuple):
    """Where the sums go: the address of an array, the table of a tile's rows, the distance of vectors."""

    address: int
    table: int
    vector: int
    others: int
    """Address of an array alike, of what is joined with the sums."""
    value: int
    """Of one of the values that decide which are kept."""


@intrinsic
def pixel_tile(typing_context, tile, streams, c, bias, nest, last_lanes):
    """Compute one tile, fetching ahead as `matrix_tiles.stream_tiles` does.

    Parameters
    ----------
    tile : Tile
        Starts anywhere, and may join.
    streams : Streams
        Addresses.
    c : Places
    bias : int64
        Address of as many vectors as the tile has, or NO_BIAS.
    nest : tuple of StreamLoop
        Over blocks of channels, and the lanes of a block.
    last_lanes : int64
        Lanes of one more block, behind the others; 0: there is none.
    """
    if not isinstance(tile, CompileTimeType):
        return None
    shape = tile.value

    def codegen(context, builder, signature, arguments):
        streams, (c_at, table, c_vector, others_at, value_at) = (
            integers(context, builder, signature.args[place], arguments[place]) for place in (1, 2)
        )
        loops = each_loop(context, builder, signature.args[4], arguments[4])
        bias = pointer_to(builder, arguments[3])
        sums = Accumulators(builder, shape.rows, shape.vectors)

        places = builder.inttoptr(table, _WORD.as_pointer())

        def pixel(array: ir.Value, row: int) -> ir.Value:  # read twice: addresses would take registers
            place = builder.load(builder.gep(places, [constant(row)]))
            return pointer_to(builder, builder.add(array, place))

        def target(row: int) -> ir.Value:
            return pixel(c_at, row)

        if shape.start in {LOAD, LOAD_RELU}:
            sums.begin(lambda row, v: load(builder, target(row), builder.mul(c_vector, constant(v))))
        else:
            sums.begin_at(shape.start, bias)
        touched = [c_at, *([others_at] if shape.join != APART else [])]
        touched += [value_at] if shape.join == JOINED_RECTIFIED else []
        for row in range(shape.rows):
            for array in touched:
                for v in range(shape.vectors):
                    prefetch(builder, advance(builder, pixel(array, row), constant(v), c_vector), level=2)

        def step(a: ir.Value, b: ir.Value, near: ir.Value, ahead: ir.Value) -> None:
            prefetch(builder, ahead, level=2)
            prefetch(builder, near, level=1)
            prefetch_vectors(builder, b, shape.vectors, shape.vectors * LANES)
            sums.multiply_add(a, shape.a_row, b, constant(LANES))

        (blocks, *block_steps), (_, *lane_steps) = loops
        at = [pointer_to(builder, address) for address in streams]
        each_step(builder, loops, at, step)
        with builder.if_then(builder.icmp_signed(">", arguments[5], constant(0))):
            last = advanced(builder, at, blocks, block_steps)
            each_step(builder, [[arguments[5], *lane_steps]], last, step)
        for row, v, total in sums.totals(shape.start):
            offset = builder.mul(c_vector, constant(v))
            joined = total
            if shape.join != APART:
                joined = builder.fadd(total, load(builder, pixel(others_at, row), offset))
            if shape.join == JOINED_RECTIFIED:
                value, zero = load(builder, pixel(value_at, row), offset), vector_constant(0)
                joined = builder.select(builder.fcmp_ordered("<=", value, zero), zero, joined)
            store(builder, joined, target(row), offset)

    return types.void(tile, streams, c, types.int64, nest, types.int64), codegen


@intrinsic
def words(typing_context, address):
    """Return the pointer to int64 at an address."""

    def codegen(_context, builder, _signature, arguments):
        return builder.inttoptr(arguments[0], _WORD.as_pointer())

    return types.CPointer(types.int64)(types.int64), codegen


@intrinsic
def copy_pixels(typing_context, target, source, table, count):
    """Copy one block of channels of `count` pixels, whose places a table holds, to lie side by side."""

    def codegen(_context, builder, _signature, arguments):
        target, source, table, count = arguments
        to, places = pointer_to(builder, target), builder.inttoptr(table, _WORD.as_pointer())
        with cgutils.for_range(builder, count) as loop:
            place = builder.load(builder.gep(places, [loop.index]))
            of = pointer_to(builder, builder.add(source, place))
            store(builder, load(builder, of, constant(0)), to, builder.mul(loop.index, constant(LANES)))

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def copy_strided(typing_context, target, source, step, count):
    """Copy `count` vectors, `step` floats apart, to lie side by side."""

    def codegen(_context, builder, _signature, arguments):
        target, source, step, count = arguments
        to, of = pointer_to(builder, target), pointer_to(builder, source)
        with cgutils.for_range(builder, count) as loop:
            vector = load(builder, of, builder.mul(loop.index, step))
            store(builder, vector, to, builder.mul(loop.index, constant(LANES)))

    return types.void(*[types.int64] * 4), codegen


class Columns(NamedTuple):
    """What a tile of a weight gradient reads and fetches: addresses, and the distance of the vectors of B."""

    a: int
    b: int
    vector: int
    ahead: int
    """Into the second-level cache."""


class Steps(NamedTuple):
    """The length of a loop of `leaf_tile`, and its steps in floats."""

    length: int
    a: int
    b: int
    ahead: int


@intrinsic
def leaf_tile(typing_context, tile, columns, start, c, finished, nest):
    """Compute one tile of the sums of a leaf, or of a part of it, and add what is finished.

    As `matrix_tiles.stream_tiles`, with vectors of B anywhere::

        C[row, v] = S[row, v] + sum over the loops of A[i1*a1 + ... + row*a_row] * B[i1*b1 + ... + v*vector]

    Parameters
    ----------
    tile : Tile
    columns : Columns
    start, c : Rows
        S and C; vectors lie side by side.
    finished : Finished
        Sums of other leaves.
    nest : tuple of Steps
        Outermost first.
    """
    if not isinstance(tile, CompileTimeType):
        return None
    shape = tile.value

    def codegen(context, builder, signature, arguments):
        columns, (start_at, start_row), (c_at, c_row), finished = (
            integers(context, builder, signature.args[place], arguments[place]) for place in range(1, 5)
        )
        a, b, b_vector, ahead = columns
        loops = each_loop(context, builder, signature.args[5], arguments[5])
        a, b, ahead, start_at, c_at = (pointer_to(builder, at) for at in (a, b, ahead, start_at, c_at))
        number, last, distance = finished
        width = at_once(shape.rows, shape.vectors)

        def one(first: ir.Value) -> None:
            sums = Accumulators(builder, shape.rows, width)
            column = builder.mul(first, constant(LANES))

            def at(pointer: ir.Value, row: int, step: ir.Value) -> ir.Value:
                return builder.gep(advance(builder, pointer, constant(row), step), [column])

            def step(a: ir.Value, b: ir.Value, ahead: ir.Value) -> None:
                prefetch(builder, ahead, level=2)
                sums.multiply_add(a, shape.a_row, b, b_vector)

            sums.begin(lambda row, v: load(builder, at(start_at, row, start_row), constant(v * LANES)))
            each_step(builder, loops, [a, advance(builder, b, first, b_vector), ahead], step)
            with cgutils.for_range(builder, number) as k:
                source = pointer_to(builder, builder.sub(last, builder.mul(k.index, distance)))
                for (row, v), slot in sums.slots.items():
                    partial = load(builder, at(source, row, c_row), constant(v * LANES))
                    builder.store(builder.fadd(partial, builder.load(slot)), slot)
            for (row, v), slot in sums.slots.items():
                store(builder, builder.load(slot), at(c_at, row, c_row), constant(v * LANES))

        with each_part(builder, shape.vectors // width) as part:
            one(builder.mul(part, constant(width)))

    return types.void(tile, columns, start, c, finished, nest), codegen
