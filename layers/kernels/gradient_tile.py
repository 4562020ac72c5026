"""The register tile of a first layer's weight gradient: columns and channels of one or several kernel rows.

All its sums go over one run of pixels of dy. Few columns and channels would leave registers unused, and each
vector of dy would serve few multiply-adds: then the tile has several rows of the kernel. The gradient of bias
is one more row of sums, of dy itself, in the tile that meets a run first; alone, its one chain would wait for
each sum.
"""

from dataclasses import dataclass
from functools import lru_cache

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from layers.arithmetic import ceil_div
from layers.kernels.compile_time import CompileTime, CompileTimeType
from layers.kernels.register_tile import TILE_ROWS, Accumulators, integers
from layers.kernels.simd import (
    LANES,
    REGISTERS_EACH,
    advance,
    constant,
    counted,
    load,
    pointer_to,
    prefetch,
    splat,
    store,
    vector_constant,
)
from layers.kernels.target import TARGET

LATENCY = 4  # cycles of a multiply-add; two of them begin in each, and two loads
STEP_CYCLES = 2  # of a step, beside multiply-adds and loads


@dataclass(frozen=True)
class GradientTile(CompileTime):
    """The shape of a tile, which its code is generated for."""

    kernel_rows: int
    terms: int
    """Columns of the kernel and channels, which lie side by side in a row of x."""
    vectors: int
    a_step: int
    """Distance of the scalars of one pixel of dy and the next."""
    begins: bool
    """The tile may be the first that meets a run of pixels."""
    fetched: int
    """Vectors that are asked for beside each pixel."""


@dataclass(frozen=True)
class Cut:
    """How the sums of a weight gradient are cut into tiles."""

    vectors: int
    kernel_rows: int
    """Of a tile with whole rows of the kernel; 1: there is none of several."""
    terms: int
    tail: int
    """Terms of the tiles of one row of the kernel, and of the last; 0: all are equal."""
    has_bias: bool
    """The tile that meets pixels first has a row of sums for bias; else there is a tile for that alone."""

    def tiles(self, kernel_rows: int, terms: int) -> int:
        """Return how many tiles there are for a kernel of so many rows."""
        blocks, rest = divmod(kernel_rows, self.kernel_rows) if self.kernel_rows > 1 else (0, kernel_rows)
        return blocks + rest * ceil_div(terms, self.terms)


def most_rows(vectors: int) -> int:
    """Return the rows of the largest tile, that of bias among them; 1 or less: there is none."""
    fit = (TARGET.registers - 1) // (vectors * REGISTERS_EACH) - 1  # vectors of dy, and a broadcast
    return max(fit, TILE_ROWS) if vectors == 1 else fit


@lru_cache
def cut(k_blocks: int, kernel_rows: int, terms: int) -> Cut:
    """Return the cut that takes the least time for each vector of dy."""
    found = [
        Cut(vectors, rows, each, terms % each, has_bias)
        for vectors in (2, 1)
        if k_blocks % vectors == 0
        for has_bias in (True, False)
        for each in range(min(terms, most_rows(vectors) - has_bias), 0, -1)
        for rows in range(1, max(1, min(kernel_rows, (most_rows(vectors) - has_bias) // terms)) + 1)
    ]
    return min(found, key=lambda cut: _cycles(cut, kernel_rows, terms) / cut.vectors)


def _cycles(cut: Cut, kernel_rows: int, terms: int) -> float:
    """Return about how many cycles all tiles take for one pixel of dy."""
    singles = terms // cut.terms * _tile_cycles(cut.vectors, cut.terms)
    if cut.tail:
        singles += _tile_cycles(cut.vectors, cut.tail)
    alone = 0 if cut.has_bias else _tile_cycles(cut.vectors, 1)
    if cut.kernel_rows == 1:
        return kernel_rows * singles + alone
    blocks, rest = divmod(kernel_rows, cut.kernel_rows)
    return blocks * _tile_cycles(cut.vectors, cut.kernel_rows * terms) + rest * singles + alone


def _tile_cycles(vectors: int, rows: int) -> float:
    registers = vectors * REGISTERS_EACH
    return STEP_CYCLES + max(rows * registers / 2, (rows + registers + 1) / 2, LATENCY)


@intrinsic
def gradient_tile(typing_context, tile, begins, a, a_row, b, ahead, c, bias, count):
    """Add the products of `count` pixels to the sums of one tile.

    Parameters
    ----------
    tile : GradientTile
    begins : bool
        Add dy to the sums of bias, too. Only if the tile may.
    a, a_row : int64
        Address of the scalars of the first pixel; distance of the rows of x.
    b : Vectors
        Pixels of dy, LANES apart.
    ahead : int64
        Address of the pixels to ask for meanwhile.
    c : Sums
        Its rows are those of the kernel rows and terms one after the other.
    bias : int64
        Address of the sums of bias.
    count : int64
    """
    if not isinstance(tile, CompileTimeType):
        return None
    shape = tile.value

    def codegen(context, builder, signature, arguments):
        begins, a, a_row, _, ahead, _, bias, count = arguments[1:]
        (b, b_vector), (c, c_row, c_vector) = (
            integers(context, builder, signature.args[i], arguments[i]) for i in (4, 6)
        )
        a, b, ahead, c, bias = (pointer_to(builder, address) for address in (a, b, ahead, c, bias))
        rows = shape.kernel_rows * shape.terms

        def place(row: int, v: int) -> tuple[ir.Value, ir.Value]:
            """Return where a sum lies; those of bias are the last row."""
            if row == rows:
                return bias, constant(v * LANES)
            return c, builder.add(builder.mul(c_row, constant(row)), builder.mul(c_vector, constant(v)))

        def step(sums: Accumulators, index: ir.Value) -> None:
            pixel = builder.mul(index, constant(LANES))
            vectors = [
                load(builder, b, builder.add(pixel, builder.mul(b_vector, constant(v))))
                for v in range(shape.vectors)
            ]
            for v in range(shape.fetched):
                at = builder.add(pixel, builder.mul(b_vector, constant(v)))
                prefetch(builder, builder.gep(ahead, [at]), level=1)
            for u in range(shape.kernel_rows):
                row_at = builder.gep(
                    advance(builder, a, index, constant(shape.a_step)), [builder.mul(a_row, constant(u))]
                )
                for term in range(shape.terms):
                    scalar = splat(builder, builder.load(builder.gep(row_at, [constant(term)])))
                    sums.add_product(u * shape.terms + term, scalar, vectors)
            if sums.rows > rows:
                sums.add_product(rows, vector_constant(1), vectors)

        def emit(rows: int) -> None:
            sums = Accumulators(builder, rows, shape.vectors)
            sums.begin(lambda row, v: load(builder, *place(row, v)))
            with counted(builder, count) as index:
                step(sums, index)
            for (row, v), slot in sums.slots.items():
                store(builder, builder.load(slot), *place(row, v))

        if not shape.begins:
            emit(rows)
            return
        with builder.if_else(begins) as (first, later):
            with first:
                emit(rows + 1)
            with later:
                emit(rows)

    addresses = [types.int64] * 2
    return types.void(tile, types.boolean, *addresses, b, types.int64, c, *addresses), codegen
