"""The register tile of direct convolutions: it fetches the next block of channels, and ends with the last."""

from dataclasses import dataclass
from typing import NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from layers.kernels.compile_time import CompileTime, CompileTimeType
from layers.kernels.matrix_tiles import advanced
from layers.kernels.pixel_tiles import MOST_VECTORS
from layers.kernels.register_tile import (
    BIAS,
    BIAS_RELU,
    TILE_ROWS,
    ZERO,
    Accumulators,
    at_once,
    each_loop,
    each_part,
    integers,
)
from layers.kernels.simd import (
    LANES,
    advance,
    constant,
    counted,
    load,
    multiply_add,
    pointer_to,
    prefetch,
    rectify,
    splat,
    store,
    vector_constant,
)


@dataclass(frozen=True)
class DirectTile(CompileTime):
    """The shape of a tile: some groups of weights, with `per_group` vectors side by side in each."""

    rows: int
    per_group: int
    groups: int
    a_row: int
    start: int = ZERO

    @property
    def vectors(self) -> int:
        """Vectors of a row."""
        return self.per_group * self.groups


def groups_together(rows: int, per_group: int, groups: int) -> int:
    """Return the groups of a tile: several where a row of pixels is too short to fill the registers."""
    if rows > MOST_SHORT:
        return 1
    room = (TILE_ROWS + 1) * MOST_VECTORS
    fitting = (n for n in (5, 4, 3, 2) if groups % n == 0 and (rows + 1) * per_group * n <= room)
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
        Lanes of one more block, behind the others; 0: there is none.
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
        width = at_once(shape.rows, shape.vectors)

        def one(first: ir.Value) -> None:
            sums = Accumulators(builder, shape.rows, width)
            bias_at = builder.gep(bias, [builder.mul(first, constant(LANES))])
            places = [_place(builder, builder.add(first, constant(v)), shape, b_group) for v in range(width)]

            def begin(_row: int, v: int) -> ir.Value:
                if shape.start in {BIAS, BIAS_RELU}:
                    return load(builder, bias_at, constant(v * LANES))
                return vector_constant(0)

            def multiply(a: ir.Value, b: ir.Value) -> None:
                vectors = [load(builder, b, place) for place in places]
                for row in range(shape.rows):
                    scalar = splat(builder, builder.load(builder.gep(a, [constant(row * shape.a_row)])))
                    for v, vector in enumerate(vectors):
                        slot = sums.slots[row, v]
                        builder.store(multiply_add(builder, scalar, vector, builder.load(slot)), slot)

            def add(loops: list[list[ir.Value]], at: list[ir.Value]) -> None:
                if not loops:
                    a, b, near = at
                    prefetch(builder, near, level=1)
                    multiply(a, b)
                    return
                (length, *steps), *inner = loops
                with counted(builder, length) as index:
                    add(inner, advanced(builder, at, index, steps))

            sums.begin(begin)
            at = [pointer_to(builder, address) for address in (a, b, near)]
            add(loops, at)
            with builder.if_then(builder.icmp_signed(">", arguments[5], constant(0))):
                add([*inside, [arguments[5], *lane_steps]], advanced(builder, at, blocks, block_steps))
            target = advance(builder, pointer_to(builder, c_at), first, c_vector)
            for (row, v), slot in sums.slots.items():
                total = builder.load(slot)
                if shape.start == BIAS_RELU:
                    total = rectify(builder, total)
                offset = builder.add(builder.mul(c_row, constant(row)), builder.mul(c_vector, constant(v)))
                store(builder, total, target, offset)

        with each_part(builder, shape.vectors // width) as part:
            one(builder.mul(part, constant(width)))

    return types.void(tile, taps, c, types.int64, nest, types.int64), codegen


def _place(builder: ir.IRBuilder, v: ir.Value, shape: "DirectTile", b_group: ir.Value) -> ir.Value:
    """Emit where vector `v` lies in B."""
    group, place = (divide(v, constant(shape.per_group)) for divide in (builder.udiv, builder.urem))
    return builder.add(builder.mul(group, b_group), builder.mul(place, constant(LANES)))
