"""What becomes of sums that the tile unit has stored: they go to where they belong, and no zero keeps a sign.

Terms that are zero by padding may be left out by one who computes the same sums otherwise (`paired_tile`):
that changes nothing but the sign of a zero. Addresses are int64, distances bytes.
"""

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from layers.kernels.bf16 import upper_half
from layers.kernels.simd import LANES, VECTOR, rectify, vector_constant

VECTOR_BYTES = 4 * LANES


@intrinsic
def write_sums(typing_context, target, target_step, source, source_step, count):
    """Write `count` vectors, -0 as +0."""

    def codegen(_context, builder, _signature, arguments):
        _each(builder, arguments, lambda value: builder.fadd(value, vector_constant(0)))

    return types.void(*[types.int64] * 5), codegen


@intrinsic
def write_rounded(typing_context, target, target_step, source, source_step, count):
    """Write `count` vectors rounded to values of bf16, -0 as +0."""

    def codegen(_context, builder, _signature, arguments):
        _each(builder, arguments, lambda value: _rounded(builder, builder.fadd(value, vector_constant(0))))

    return types.void(*[types.int64] * 5), codegen


@intrinsic
def write_rectified(typing_context, target, target_step, source, source_step, count):
    """Write the rectified values of `count` vectors, rounded to values of bf16."""

    def codegen(_context, builder, _signature, arguments):
        _each(builder, arguments, lambda value: _rounded(builder, rectify(builder, value)))

    return types.void(*[types.int64] * 5), codegen


def _rounded(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    words = ir.VectorType(ir.IntType(32), LANES)
    return builder.bitcast(upper_half(builder, builder.bitcast(value, words)), VECTOR)


def _each(builder: ir.IRBuilder, arguments, made: Callable[[ir.Value], ir.Value]) -> None:
    target, target_step, source, source_step, count = arguments

    def at(address, step, index):
        place = builder.add(address, builder.mul(index, step))
        return builder.inttoptr(place, VECTOR.as_pointer())

    with cgutils.for_range(builder, count) as loop:
        value = builder.load(at(source, source_step, loop.index), align=4)
        builder.store(made(value), at(target, target_step, loop.index), align=4)
