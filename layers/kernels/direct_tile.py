"""The register tile of direct convolutions: it fetches the next block of channels, and ends with the last."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from layers.kernels.bf16 import rounded
from layers.kernels.compile_time import CompileTime, CompileTimeType
from layers.kernels.paired_tile import HALF, PAIRED_ROWS, Pairs, add_products, each_block, paired_at_once
from layers.kernels.register_tile import (
    MOST_VECTORS,
    TILE_ROWS,
    ZERO,
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
    pointer_to,
    prefetch,
    store,
)
from layers.kernels.tiling import split_rows


@dataclass(frozen=True)
class DirectTile(CompileTime):
    """The shape of a tile: some groups of weights, with `per_group` vectors side by side in each."""

    rows: int
    per_group: int
    groups: int
    a_row: int
    start: int = ZERO
    paired: bool = False
    """Sums are those of `paired_tile`, of all lanes of each block."""
    rounds: bool = False
    """What is stored has values of bf16."""

    @property
    def vectors(self) -> int:
        """Vectors of a row."""
        return self.per_group * self.groups


def rows_of_tiles(columns: int, *, paired: bool = False) -> tuple[int, int]:
    """Return the rows of the tiles of a row of pixels, and of the last one (0: as the others)."""
    return split_rows(columns, PAIRED_ROWS if paired else TILE_ROWS)


def groups_together(rows: int, per_group: int, groups: int, *, paired: bool = False) -> int:
    """Return the groups of a tile: several where a row of pixels is too short to fill the registers."""
    chains, most = (2, PAIRED_ROWS) if paired else (1, TILE_ROWS)
    if rows * chains > MOST_SHORT:
        return 1
    room = (most * chains + 1) * MOST_VECTORS
    fitting = (n for n in (5, 4, 3, 2) if groups % n == 0 and (rows * chains + 1) * per_group * n <= room)
    return next(fitting, 1)


MOST_SHORT = 6  # rows; from 7 on a tile of two vectors hides the latency of the multiply-add


class Taps(NamedTuple):
    """Addresses of A and B, the distance of B's groups, and what the first-level cache needs soon."""

    a: int
    b: int
    group: int
    near: int


class TapLoop(NamedTuple):
    """The length of a loop, below 1 if nothing is to be summed, and its steps in floats."""

    length: int
    a: int
    b: int
    near: int


@intrinsic
def direct_tile(typing_context, tile, taps, c, bias, nest, last_lanes):
    """Compute one tile as `register_tile.multiply_tile` does, and ask for `near` in each step.

    Parameters
    ----------
    tile : DirectTile
        Starts at ZERO or BIAS, or BIAS_RELU.
    taps : Taps
    c : Sums
    bias : int64
    nest : tuple of TapLoop
        Over blocks of channels, kernel rows and columns, and the lanes of a block.
    last_lanes : int64
        Lanes of one more block, behind the others; 0: there is none. A paired tile has none.
    """
    if not isinstance(tile, CompileTimeType):
        return None
    shape = tile.value

    def codegen(context, builder, signature, arguments):
        (a, b, b_group, near), (c_at, c_row, c_vector) = (
            integers(context, builder, signature.args[place], arguments[place]) for place in (1, 2)
        )
        bias = pointer_to(builder, arguments[3])
        loops = each_loop(context, builder, signature.args[4], arguments[4])
        (blocks, *block_steps), *inside, (_, *lane_steps) = loops
        width = (paired_at_once if shape.paired else at_once)(shape.rows, shape.vectors)

        def one(first: ir.Value) -> None:
            sums: Any = (Pairs if shape.paired else Accumulators)(builder, shape.rows, width)
            bias_at = builder.gep(bias, [builder.mul(first, constant(LANES))])
            places = [_place(builder, builder.add(first, constant(v)), shape, b_group) for v in range(width)]

            def step(a: ir.Value, b: ir.Value, near: ir.Value) -> None:
                prefetch(builder, near, level=1)
                sums.multiply_add_at(a, shape.a_row, b, places)

            sums.begin_at(shape.start, bias_at)
            at = [pointer_to(builder, address) for address in (a, b, near)]
            if shape.paired:
                _add_pairs(builder, sums, shape, loops, at, places)
            else:
                each_step(builder, loops, at, step)
                with builder.if_then(builder.icmp_signed(">", arguments[5], constant(0))):
                    last = advanced(builder, at, blocks, block_steps)
                    each_step(builder, [*inside, [arguments[5], *lane_steps]], last, step)
            target = advance(builder, pointer_to(builder, c_at), first, c_vector)
            for row, v, total in sums.totals(shape.start):
                offset = builder.add(builder.mul(c_row, constant(row)), builder.mul(c_vector, constant(v)))
                store(builder, rounded(builder, total) if shape.rounds else total, target, offset)

        with each_part(builder, shape.vectors // width) as part:
            one(builder.mul(part, constant(width)))

    return types.void(tile, taps, c, types.int64, nest, types.int64), codegen


def _add_pairs(builder: Any, sums: Any, shape: "DirectTile", loops: Any, at: Any, places: Any) -> None:
    """Emit the sums of blocks of channels, two together, and taps."""
    (blocks, *block_steps), *inside, (_, a_lane, b_lane, near_lane) = loops
    pairs = [constant(HALF // 2), *(builder.mul(step, constant(2)) for step in (a_lane, b_lane)), near_lane]

    def pair(even, odd, a, b, near):
        prefetch(builder, near, level=1)
        even.multiply_add_at(a, shape.a_row, b, places)
        odd.multiply_add_at(builder.gep(a, [a_lane]), shape.a_row, builder.gep(b, [b_lane]), places)

    def block(pointers, halves):
        add_products(sums, [[constant(halves), *block_steps], pairs], pointers, pair)

    each_block(builder, [blocks, *block_steps], inside, at, block)


def _place(builder: ir.IRBuilder, v: ir.Value, shape: "DirectTile", b_group: ir.Value) -> ir.Value:
    """Emit where vector `v` lies in B."""
    group, place = (divide(v, constant(shape.per_group)) for divide in (builder.udiv, builder.urem))
    return builder.add(builder.mul(group, b_group), builder.mul(place, constant(LANES)))
