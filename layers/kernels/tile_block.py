"""A block of tiles in a nest of loops: what `register_tile` is for float32, for bf16 on the tile unit.

The block has some tiles of A (say pixels), one below the other, by some of B (output channels), side by side,
and a tile of sums for each pair. It is computed over all of the loops before its sums are stored::

    for i1, i2, ... in the loops:
        C[p, v] += A at (a[p] + i1*a1 + i2*a2 + ...) * B at (b + v*tile + i1*b1 + i2*b2 + ...)

Each step is one product of `tile_unit`, with 32 terms, so the bits follow from the order of the loops: the
shape of a block changes none, nor does a cut of a longer sum (start=LOAD). Addresses are int64,
distances bytes.
"""

from dataclasses import dataclass
from typing import NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from layers.kernels.compile_time import CompileTime, CompileTimeType
from layers.kernels.flush_mode import emit_flushing
from layers.kernels.register_tile import LOAD, ZERO, each_loop, each_step, integers
from layers.kernels.simd import constant
from layers.kernels.tile_unit import ROWS, TILES, TileUnit, emitter

SUMS = 4
"""Tiles of sums of the largest block: more would leave too few for A and B."""


@dataclass(frozen=True)
class TileBlock(CompileTime):
    """The shape of a block."""

    unit: TileUnit
    a_tiles: int
    b_tiles: int
    widest: int
    """Most tiles of B of the blocks that a kernel uses, as one configuration serves them all."""
    start: int = ZERO
    """ZERO or LOAD."""


class Tiles(NamedTuple):
    """Where tiles begin, one address for each of A; the distances of rows, and of tiles side by side."""

    addresses: tuple[int, ...]
    row: int
    tile: int


class Pairs(NamedTuple):
    """Where the tiles of B begin, and their distance; their rows lie side by side."""

    address: int
    tile: int


class TileLoop(NamedTuple):
    """The length of a loop, below 1 if nothing is to be summed, and its steps in A and B."""

    length: int
    a: int
    b: int


@intrinsic
def begin_tiles(typing_context, block, memory, rows):
    """Configure the unit of this thread, and begin flushing, for a kernel that also ends both.

    What the kernel itself adds to sums is so of the unit's arithmetic.

    Parameters
    ----------
    block : TileBlock
        Any with the `widest` of all.
    memory : int64
        Address of MEMORY_FLOATS floats of this thread.
    rows : int64
        Of each tile of A, 1 to 16.
    """
    if not isinstance(block, CompileTimeType):
        return None
    shape = block.value

    def codegen(_context, builder, _signature, arguments):
        emit_flushing(builder, on=True)
        _, memory, rows = arguments
        others = TILES - SUMS - shape.widest
        each = [*[rows] * SUMS, *[constant(ROWS)] * shape.widest, *[rows] * others]
        emitter(builder, shape.unit, memory).configure(each)

    return types.void(block, types.int64, types.int64), codegen


@intrinsic
def end_tiles(typing_context, block, memory):
    """Release the unit, and end flushing."""
    if not isinstance(block, CompileTimeType):
        return None

    def codegen(_context, builder, _signature, arguments):
        emitter(builder, block.value.unit, arguments[1]).release()
        emit_flushing(builder, on=False)

    return types.void(block, types.int64), codegen


@intrinsic
def multiply_tiles(typing_context, block, memory, a, b, start, c, nest):
    """Compute one block.

    Parameters
    ----------
    block : TileBlock
    memory : int64
        Of the unit.
    a : Tiles
    b : Pairs
    start : Tiles
        What the sums begin with, where the block's start is LOAD; with 0 between rows, a bias.
    c : Tiles
        Where the sums are stored.
    nest : tuple of TileLoop
        Outermost first.
    """
    if not isinstance(block, CompileTimeType):
        return None
    shape = block.value

    def codegen(context, builder, signature, arguments):
        unit = emitter(builder, shape.unit, arguments[1])
        a, start, c = (_tiles(context, builder, signature.args[at], arguments[at]) for at in (2, 4, 5))
        b, b_tile = integers(context, builder, signature.args[3], arguments[3])
        loops = each_loop(context, builder, signature.args[6], arguments[6])
        sums = [(p, v, p * shape.widest + v) for p in range(shape.a_tiles) for v in range(shape.b_tiles)]
        for p, v, tile in sums:
            if shape.start == LOAD:
                unit.load(tile, _beside(builder, start, p, v), start.row)
            else:
                unit.zero(tile)

        def step(*at: ir.Value) -> None:
            b_at, *a_at = (builder.ptrtoint(pointer, ir.IntType(64)) for pointer in at)
            for v in range(shape.b_tiles):
                unit.load(SUMS + v, builder.add(b_at, builder.mul(b_tile, constant(v))), _PAIR_ROW)
            first = SUMS + shape.widest
            for p in range(shape.a_tiles):
                tile = first + p % (TILES - first)
                unit.load(tile, a_at[p], a.row)
                for v in range(shape.b_tiles):
                    unit.multiply(p * shape.widest + v, tile, SUMS + v)

        nested = [[length, b_step, *[a_step] * shape.a_tiles] for length, a_step, b_step in loops]
        byte = ir.IntType(8).as_pointer()
        pointers = [builder.inttoptr(address, byte) for address in (b, *a.addresses)]
        each_step(builder, nested, pointers, step)
        for p, v, tile in sums:
            unit.store(tile, _beside(builder, c, p, v), c.row)

    return types.void(block, types.int64, a, b, start, c, nest), codegen


_PAIR_ROW = constant(64)


def _tiles(context, builder, kind, value):
    addresses = integers(context, builder, kind[0], builder.extract_value(value, 0))
    row, tile = (
        context.cast(builder, builder.extract_value(value, at), kind[at], types.int64) for at in (1, 2)
    )
    return Tiles(tuple(addresses), row, tile)


def _beside(builder, tiles, p, v):
    return builder.add(tiles.addresses[p], builder.mul(tiles.tile, constant(v)))
