"""The register tile that every heavy kernel stands on: a small matrix product inside a nest of loops.

A tile is rows x vectors of sums. Each innermost step broadcasts a scalar of A for every row and multiplies it
with the vectors of B. Where the registers do not hold all vectors at once, the tile is computed in parts
side by side. A kernel says where A, B and C lie and over which loops to sum, outermost first, so that its
call reads as its nest::

    multiply_tile(
        TILE, v, Vectors(u, LANES), Sums(m, row=LANES, vector=block),
        (
            Loop(channel_blocks, a=v_block, b=u_block),
            Loop(LANES, a=1, b=u_lane),
        ),
    )

computes, for every row and vector v of the tile::

    C[row, v] = sum over the loops of A[i1*a1 + i2*a2 + ... + row*a_row] * B[i1*b1 + ... + v]

Each element of C is one chain of fused multiply-adds in the order of the loops, so its bits depend neither on
the size of the tile nor on where a longer sum is cut: start=LOAD goes on with it.

Addresses are int64, of float32 values; distances and steps are in floats and may be negative.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from layers.kernels.compile_time import CompileTime, CompileTimeType
from layers.kernels.simd import (
    LANES,
    REGISTERS_EACH,
    VECTOR,
    advance,
    constant,
    counted,
    load,
    multiply_add,
    pointer_to,
    rectify,
    splat,
    store,
    vector_constant,
)
from layers.kernels.target import AVX2, AVX512, NEON, SSE2, TARGET

TILE_ROWS = {AVX512: 14, AVX2: 6, NEON: 6, SSE2: 3}[TARGET.simd]
"""Rows of the largest tile; `at_once` of its vectors fit the registers (of SSE2 all but one)."""


def at_once(rows: int, vectors: int) -> int:
    """Return how many vectors of a tile are computed at once: an equal part that fits the registers."""
    for part in range(vectors, 1, -1):
        needed = (rows + 1) * part * REGISTERS_EACH + 1  # sums, vectors of B, a broadcast
        if vectors % part == 0 and needed <= TARGET.registers:
            return part
    return 1


MOST_VECTORS = at_once(TILE_ROWS, 2)
"""Vectors of a tile of so many rows, at most."""

ZERO, LOAD, BIAS, BIAS_RELU, LOAD_RELU = range(5)
"""Where the sums begin: at zero, at what C holds, or at the bias.

BIAS_RELU, LOAD_RELU: there, and the whole is rectified when stored.
"""

NO_BIAS = 0
"""The address of the bias where a tile starts elsewhere."""

APART, JOINED, JOINED_RECTIFIED = range(3)
"""What is stored: the sums; these and what other readers of a value add to its gradient; this, or 0 where the
value itself, a ReLU's, is not above 0."""


@dataclass(frozen=True)
class Tile(CompileTime):
    """The shape of a register tile, which its code is generated for."""

    rows: int
    vectors: int
    a_row: int
    """Distance of the scalars of one row and the next in A."""
    start: int = ZERO
    join: int = APART


class Vectors(NamedTuple):
    """Where B begins, and the distance of its vectors."""

    address: int
    vector: int


class Sums(NamedTuple):
    """Where C begins, and the distances of its rows and vectors."""

    address: int
    row: int
    vector: int


class Loop(NamedTuple):
    """The length of a loop, below 1 if nothing is to be summed, and its steps in A and B."""

    length: int
    a: int
    b: int


@intrinsic
def multiply_tile(typing_context, tile, a, b, c, nest):
    """Compute one tile.

    Parameters
    ----------
    tile : Tile
        Starts at ZERO or LOAD.
    a : int64
        Address of the scalars.
    b : Vectors
    c : Sums
    nest : tuple of Loop
        Outermost first.
    """
    if not isinstance(tile, CompileTimeType):
        return None
    shape = tile.value

    def codegen(context, builder, signature, arguments):
        kinds = signature.args
        a = pointer_to(builder, arguments[1])
        (b, b_vector), (c, c_row, c_vector) = (
            integers(context, builder, kinds[i], arguments[i]) for i in (2, 3)
        )
        loops = each_loop(context, builder, kinds[4], arguments[4])
        b, c = pointer_to(builder, b), pointer_to(builder, c)
        width = at_once(shape.rows, shape.vectors)
        with each_part(builder, shape.vectors // width) as part:
            first = builder.mul(part, constant(width))
            b_at, c_at = advance(builder, b, first, b_vector), advance(builder, c, first, c_vector)
            _part(builder, shape, width, a, (b_at, b_vector), (c_at, c_row, c_vector), loops)

    return types.void(tile, types.int64, b, c, nest), codegen


def integers(context: Any, builder: ir.IRBuilder, kind: Any, value: ir.Value) -> list[ir.Value]:
    """Emit the elements of a tuple of integers as int64."""
    return [
        context.cast(builder, builder.extract_value(value, place), element, types.int64)
        for place, element in enumerate(kind)
    ]


def each_loop(context: Any, builder: ir.IRBuilder, kind: Any, value: ir.Value) -> list[list[ir.Value]]:
    """Emit the lengths and steps of a tuple of loops."""
    return [
        integers(context, builder, loop, builder.extract_value(value, depth))
        for depth, loop in enumerate(kind)
    ]


class Accumulators:
    """The sums of one part of a tile while it is computed: stack slots, which LLVM promotes to registers."""

    def __init__(self, builder: ir.IRBuilder, rows: int, vectors: int):
        self.builder, self.rows, self.vectors = builder, rows, vectors
        self.slots = {
            (row, v): cgutils.alloca_once(builder, VECTOR) for row in range(rows) for v in range(vectors)
        }

    def begin(self, start: Callable[[int, int], ir.Value]) -> None:
        """Emit the value of ``start(row, v)`` into each slot."""
        for (row, v), slot in self.slots.items():
            self.builder.store(start(row, v), slot)

    def begin_at(self, start: int, bias: ir.Value) -> None:
        """Emit zeros or, where `start` says so, the vectors at the pointer `bias`."""
        if start in {BIAS, BIAS_RELU}:
            self.begin(lambda _row, v: load(self.builder, bias, constant(v * LANES)))
        else:
            self.begin(lambda _row, _v: vector_constant(0))

    def totals(self, start: int) -> Iterator[tuple[int, int, ir.Value]]:
        """Emit the sums, rectified where `start` says so, and give them by row and vector."""
        for (row, v), slot in self.slots.items():
            total = self.builder.load(slot)
            yield row, v, rectify(self.builder, total) if start in {BIAS_RELU, LOAD_RELU} else total

    def multiply_add(self, a: ir.Value, a_row: int, b: ir.Value, b_vector: ir.Value) -> None:
        """Add the products of a scalar for each row, `a_row` floats apart, and vectors, `b_vector` apart."""
        places = [self.builder.mul(b_vector, constant(v)) for v in range(self.vectors)]
        self.multiply_add_at(a, a_row, b, places)

    def multiply_add_at(self, a: ir.Value, a_row: int, b: ir.Value, places: Sequence[ir.Value]) -> None:
        """Add the products of a scalar for each row and the vectors at these distances from `b`."""
        builder = self.builder
        vectors = [load(builder, b, place) for place in places]
        for row in range(self.rows):
            scalar = splat(builder, builder.load(builder.gep(a, [constant(row * a_row)])))
            self.add_product(row, scalar, vectors)

    def add_product(self, row: int, scalar: ir.Value, vectors: Sequence[ir.Value]) -> None:
        """Add the products of one row: of a scalar in all lanes, and vectors."""
        for v, vector in enumerate(vectors):
            slot = self.slots[row, v]
            total = multiply_add(self.builder, scalar, vector, self.builder.load(slot))
            self.builder.store(total, slot)


def advanced(
    builder: ir.IRBuilder, pointers: Sequence[ir.Value], index: ir.Value, steps: Sequence[ir.Value]
) -> list[ir.Value]:
    """Emit the pointers `index` of their steps further on."""
    return [advance(builder, pointer, index, step) for pointer, step in zip(pointers, steps, strict=True)]


def each_step(
    builder: ir.IRBuilder,
    loops: Sequence[Sequence[ir.Value]],
    at: Sequence[ir.Value],
    step: Callable[..., None],
) -> None:
    """Emit a nest of loops around ``step(*pointers)``: each has a length, and a step for each pointer."""
    if not loops:
        step(*at)
        return
    (length, *steps), *inner = loops
    with counted(builder, length) as index:
        each_step(builder, inner, advanced(builder, at, index, steps), step)


@contextmanager
def each_part(builder: ir.IRBuilder, parts: int) -> Iterator[ir.Value]:
    """Emit a loop over the parts of a tile, and give their number; no loop where there is one."""
    if parts == 1:
        yield constant(0)
        return
    with cgutils.for_range(builder, constant(parts)) as loop:
        yield loop.index


def _part(
    builder: ir.IRBuilder,
    shape: Tile,
    vectors: int,
    a: ir.Value,
    b: tuple[ir.Value, ir.Value],
    c: tuple[ir.Value, ir.Value, ir.Value],
    loops: Sequence[list[ir.Value]],
) -> None:
    """Emit some vectors of a tile; `b` and `c` begin with the pointers of the first."""
    b_at, b_vector = b
    c_at, c_row, c_vector = c

    def offset(row: int, v: int) -> ir.Value:
        return builder.add(builder.mul(c_row, constant(row)), builder.mul(c_vector, constant(v)))

    def start(row: int, v: int) -> ir.Value:
        return load(builder, c_at, offset(row, v)) if shape.start == LOAD else vector_constant(0)

    sums = Accumulators(builder, shape.rows, vectors)
    sums.begin(start)

    each_step(builder, loops, [a, b_at], lambda a, b: sums.multiply_add(a, shape.a_row, b, b_vector))
    for (row, v), slot in sums.slots.items():
        store(builder, builder.load(slot), c_at, offset(row, v))
