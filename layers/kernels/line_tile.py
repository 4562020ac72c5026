"""The register tile of a weight gradient over pixels in one line, with the sums of `paired_tile`."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from layers.kernels.compile_time import CompileTimeType
from layers.kernels.paired_tile import Pairs, add_terms, paired_at_once
from layers.kernels.register_tile import ZERO, Accumulators, each_part, integers
from layers.kernels.simd import LANES, advance, constant, load, pointer_to, store


@intrinsic
def line_tile(typing_context, tile, a, b, c, terms):
    """Add the products of a line of pixels to one tile, block by block.

    That is::

        C[row, v] += sum over q < terms of A[q*LANES + row] * B[q*LANES + v*vector]

    Parameters
    ----------
    tile : Tile
    a : int64
        Address.
    b : Vectors
    c : Rows
        Vectors lie side by side.
    terms : int64
        Those of a last block that is not full are the only ones in it.
    """
    if not isinstance(tile, CompileTimeType):
        return None
    shape = tile.value

    def codegen(context, builder, signature, arguments):
        (b, b_vector), (c, c_row) = (
            integers(context, builder, signature.args[place], arguments[place]) for place in (2, 3)
        )
        a, b, c = (pointer_to(builder, address) for address in (arguments[1], b, c))
        width = paired_at_once(shape.rows, shape.vectors)

        def one(first: ir.Value) -> None:
            sums = Pairs(builder, shape.rows, width)
            places = [builder.mul(b_vector, constant(v)) for v in range(width)]
            c_at = builder.gep(c, [builder.mul(first, constant(LANES))])

            def target(row: int) -> ir.Value:
                return advance(builder, c_at, constant(row), c_row)

            def term(chain: Accumulators, a: ir.Value, b: ir.Value) -> None:
                chain.multiply_add_at(a, 1, b, places)

            sums.begin(lambda row, v: load(builder, target(row), constant(v * LANES)))
            at = [a, advance(builder, b, first, b_vector)]
            add_terms(sums, arguments[4], [constant(LANES)] * 2, at, term)
            for row, v, total in sums.totals(ZERO):
                store(builder, total, target(row), constant(v * LANES))

        with each_part(builder, shape.vectors // width) as part:
            one(builder.mul(part, constant(width)))

    return types.void(tile, types.int64, b, c, types.int64), codegen
