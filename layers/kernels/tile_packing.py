"""Packing of float32 into the tiles of bf16 that the tile unit reads, rounded to the nearest on the way.

A row of A is 32 terms side by side; a tile of B has pairs of terms side by side, and 16 columns. Both are
lines of 64 bytes. Addresses are int64, distances bytes.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from layers.kernels.bf16 import narrowed, upper_half
from layers.kernels.simd import LANES, constant, counted, transposed

_WORDS = ir.VectorType(ir.IntType(32), LANES)
LINE = 64
"""Bytes of a row of A, and of a pair of rows of B."""


@intrinsic
def pack_pixels(typing_context, target, first, second, step, count):
    """Write lines of 32 terms: 16 from address `first` on, and 16 from `second` (0: zeros).

    Parameters
    ----------
    target : int64
        Lines lie one behind the other.
    first, second : int64
        float32, `step` bytes from one line to the next.
    count : int64
        Lines.
    """

    def codegen(_context, builder, _signature, arguments):
        target, first, second, step, count = arguments
        half = constant(LINE // 2)

        def write(to, value):
            builder.store(value, builder.inttoptr(to, value.type.as_pointer()), align=2)

        with builder.if_else(builder.icmp_signed("!=", second, constant(0))) as (both, one):
            for branch, has_second in ((both, True), (one, False)):
                with branch, counted(builder, count) as index:
                    to = builder.add(target, builder.mul(index, constant(LINE)))
                    away = builder.mul(index, step)
                    value = narrowed(builder, _words(builder, builder.add(first, away)))
                    write(to, value)
                    other = ir.Constant(value.type, [0] * LANES)
                    if has_second:
                        other = narrowed(builder, _words(builder, builder.add(second, away)))
                    write(builder.add(to, half), other)

    return types.void(*[types.int64] * 5), codegen


@intrinsic
def pack_pairs(typing_context, target, source, row, terms, pairs):
    """Write lines of 16 pairs: of rows 2i and 2i + 1 of 16 float32, zeros where there are no rows.

    Parameters
    ----------
    target, source : int64
    row : int64
        Bytes from one row of the source to the next.
    terms : int64
        Rows.
    pairs : int64
        Lines; at least half of the rows.
    """

    def codegen(_context, builder, _signature, arguments):
        target, source, row, terms, pairs = arguments
        whole, odd = builder.sdiv(terms, constant(2)), builder.and_(terms, constant(1))
        sixteen = ir.Constant(_WORDS, [16] * LANES)

        def upper(number):
            return upper_half(builder, _words(builder, builder.add(source, builder.mul(number, row))))

        def write(line, words):
            to = builder.add(target, builder.mul(line, constant(LINE)))
            builder.store(words, builder.inttoptr(to, _WORDS.as_pointer()), align=4)

        with counted(builder, whole) as index:
            even = builder.mul(index, constant(2))
            low = builder.lshr(upper(even), sixteen)
            write(index, builder.or_(low, upper(builder.add(even, constant(1)))))
        with builder.if_then(builder.icmp_signed("!=", odd, constant(0))):
            write(whole, builder.lshr(upper(builder.mul(whole, constant(2))), sixteen))
        done = builder.add(whole, odd)
        with counted(builder, builder.sub(pairs, done)) as index:
            write(builder.add(done, index), ir.Constant(_WORDS, [0] * LANES))

    return types.void(*[types.int64] * 5), codegen


def _words(builder, address):
    return builder.load(builder.inttoptr(address, _WORDS.as_pointer()), align=4)


@intrinsic
def turn_tile(typing_context, target, target_row, source, source_row):
    """Write the transpose of 16 x 16 pairs; addresses, and bytes from one row to the next."""

    def codegen(_context, builder, _signature, arguments):
        to, to_row, of, of_row = arguments
        rows = [_words(builder, builder.add(of, builder.mul(of_row, constant(row)))) for row in range(LANES)]
        for row, words in enumerate(transposed(builder, rows)):
            place = builder.add(to, builder.mul(to_row, constant(row)))
            builder.store(words, builder.inttoptr(place, _WORDS.as_pointer()), align=2)

    return types.void(*[types.int64] * 4), codegen
