"""The products of Winograd's weight gradient: sums over tiles at each position, in blocks of channels.

Both operands and the sums of a block lie in L2 or beyond, so each register tile fetches some of what follows.
"""

from dataclasses import dataclass

from llvmlite import ir
from numba import int64, types
from numba.extending import intrinsic

from layers.arithmetic import ceil_div
from layers.kernels.compile_time import CompileTime, CompileTimeType
from layers.kernels.jit import inline
from layers.kernels.register_tile import (
    TILE_ROWS,
    Accumulators,
    Sums,
    Tile,
    Vectors,
    at_once,
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
    vector_at,
    vector_constant,
)
from layers.kernels.winograd_tiles import POSITIONS

CHUNK_TILES = 56  # tiles of one sum: short sums round less, and stay in L1


@dataclass(frozen=True)
class BlockTiles(CompileTime):
    """The register tiles of LANES input channels: some long ones, then short ones with a row less."""

    number: int
    """Of all of them."""
    longs: int
    long: Tile
    short: Tile


def block_tiles(vectors: int) -> BlockTiles:
    """Return the register tiles for so many vectors of output channels: as equal as possible."""
    most = min(TILE_ROWS, 6 if vectors > 2 else 8)
    number = ceil_div(LANES, most)
    rows = ceil_div(LANES, number)
    longs = LANES - number * (rows - 1)
    return BlockTiles(number, longs, *(Tile(n, vectors, a_row=1) for n in (rows, max(1, rows - 1))))


@inline
def multiply_tiles(TILES, starts, blocks, tiles, distance, v, z, u):
    """Write the sums of v * z over `tiles` tiles at each position, or add them where `starts` is 0.

    Chunks of CHUNK_TILES are added up by themselves.

    Parameters
    ----------
    TILES : BlockTiles
    blocks : int64
        Of input channels.
    distance : int64
        Floats from one block of channels to the next in v and z.
    v, z, u : Positions
        [block][tile][LANES], [vector][tile][LANES] and [channel][vector][LANES].
    """
    vectors = TILES.long.vectors
    width = vectors * LANES
    for position in range(POSITIONS):
        for chunk in range(0, tiles, CHUNK_TILES):
            count = min(CHUNK_TILES, tiles - chunk)
            adds = int64(chunk > 0 or starts == 0)
            b = Vectors(z.address + 4 * (position * z.position + chunk * LANES), distance)
            behind, following = position, chunk + CHUNK_TILES
            if following >= tiles:
                behind, following = min(position + 1, POSITIONS - 1), 0
            turn = 0
            for cb in range(blocks):
                a = v.address + 4 * (position * v.position + cb * distance + chunk * LANES)
                to = u.address + 4 * (position * u.position + cb * LANES * width)
                for tile in range(TILES.number):
                    # beside each tile one stream: a vector of z, a block of v, or some of u
                    if turn < vectors:
                        ahead = z.address + 4 * (behind * z.position + turn * distance + following * LANES)
                    elif turn < vectors + blocks:
                        block = turn - vectors
                        ahead = v.address + 4 * (behind * v.position + block * distance + following * LANES)
                    else:
                        stream = turn - vectors - blocks
                        ahead = u.address + 4 * (behind * u.position + stream * count * LANES)
                    turn += 1
                    c = Sums(to, row=width, vector=LANES)
                    if tile < TILES.longs:
                        sum_tiles(TILES.long, a, b, c, count, ahead, adds)
                        a += 4 * TILES.long.rows
                        to += 4 * TILES.long.rows * width
                    else:
                        sum_tiles(TILES.short, a, b, c, count, ahead, adds)
                        a += 4 * TILES.short.rows
                        to += 4 * TILES.short.rows * width


@intrinsic
def sum_tiles(typing_context, tile, a, b, c, count, ahead, adds):
    """Compute a tile of sums of `count` products, and add it to C where `adds` is not zero.

    As `register_tile.multiply_tile` over one loop, whose steps are vectors in A and in B. Each step asks for
    a vector from the address `ahead` on, into the second-level cache.

    Parameters
    ----------
    tile : Tile
        Starts at ZERO.
    a, ahead, count, adds : int64
    b : Vectors
    c : Sums
    """
    if not isinstance(tile, CompileTimeType):
        return None
    shape = tile.value

    def codegen(context, builder, signature, arguments):
        kinds = signature.args
        (b, b_vector), (c, c_row, c_vector) = (
            integers(context, builder, kinds[i], arguments[i]) for i in (2, 3)
        )
        count, ahead, adds = arguments[4:]
        a, b, c, ahead = (pointer_to(builder, address) for address in (arguments[1], b, c, ahead))
        width = at_once(shape.rows, shape.vectors)
        loops = [[count, *[constant(LANES)] * 3]]
        with each_part(builder, shape.vectors // width) as part:
            first = builder.mul(part, constant(width))
            c_at = advance(builder, c, first, c_vector)
            sums = Accumulators(builder, shape.rows, width)
            sums.begin(lambda _row, _v: vector_constant(0))
            places = {
                (row, v): builder.add(builder.mul(c_row, constant(row)), builder.mul(c_vector, constant(v)))
                for row, v in sums.slots
            }
            for place in places.values():
                prefetch(builder, vector_at(builder, c_at, place), level=1)

            def step(a, b, ahead, sums=sums):
                sums.multiply_add(a, shape.a_row, b, b_vector)
                prefetch(builder, ahead, level=2)

            each_step(builder, loops, [a, advance(builder, b, first, b_vector), ahead], step)
            _store(builder, sums, c_at, places, builder.icmp_signed("!=", adds, constant(0)))

    return types.void(tile, types.int64, b, c, *[types.int64] * 3), codegen


def _store(
    builder: ir.IRBuilder,
    sums: Accumulators,
    c: ir.Value,
    places: dict[tuple[int, int], ir.Value],
    adds: ir.Value,
) -> None:
    """Emit the stores of the sums, or of what they and C add up to."""
    with builder.if_else(adds) as (then, otherwise):
        with then:
            for place, slot in sums.slots.items():
                total = builder.fadd(builder.load(slot), load(builder, c, places[place]))
                store(builder, total, c, places[place])
        with otherwise:
            for place, slot in sums.slots.items():
                store(builder, builder.load(slot), c, places[place])
