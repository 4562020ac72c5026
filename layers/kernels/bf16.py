"""Rounding of float32 to bf16, its upper half: to the nearest, ties to even, as IEEE 754 says.

A NaN stays one (a quiet one), and what is too large becomes infinite. Numbers below the smallest normal one
are rounded like others: it is the product that takes them for zeros.
"""

from functools import lru_cache

from llvmlite import ir
from numba import float32, int64, types, uint16
from numba.core import cgutils
from numba.extending import intrinsic

from layers.arithmetic import ceil_div
from layers.kernels.jit import kernel
from layers.kernels.rows import IMAGE, row_address
from layers.kernels.simd import LANES, constant
from layers.kernels.threads import Threads

_I16, _I32 = ir.IntType(16), ir.IntType(32)
_CHUNK = 1 << 14  # values of one task
VALUES, HALVES = float32[::1], uint16[::1]


def to_bf16(threads: Threads, x, rounded) -> None:
    """Write float32 [size] as bf16, uint16 [size]."""
    threads.run(_round(True), ceil_div(x.size, _CHUNK), x.size, x, rounded)


def round_values(threads: Threads, x, rounded) -> None:
    """Write float32 [size] as float32 with values of bf16, [size]; both may be one array."""
    threads.run(_round(False), ceil_div(x.size, _CHUNK), x.size, x, rounded)


@lru_cache
def _round(NARROW):
    BYTES = 2 if NARROW else 4
    write = narrow_row if NARROW else round_row

    @kernel(int64, int64, int64, VALUES, HALVES if NARROW else VALUES)
    def bf16_round(worker, first, last, x, rounded):
        for task in range(first, last):
            begin = task * _CHUNK
            count = min(_CHUNK, x.size - begin)
            write(rounded.ctypes.data + BYTES * begin, x.ctypes.data + 4 * begin, count)

    return bf16_round


def round_images(threads: Threads, x, rounded, top: int, left: int) -> None:
    """Write images with values of bf16 into larger ones, with zeros around them.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES]
        Rows are contiguous.
    rounded : float32 [N, C/LANES, top + H + bottom, left + W + right, LANES]
        All of it is written.
    top, left
        Its row and column of the first pixel.
    """
    threads.run(_round_images(), x.shape[0] * x.shape[1], rounded.size, x, rounded, top, left)


@lru_cache(maxsize=1)
def _round_images():
    @kernel(int64, int64, int64, IMAGE, IMAGE, int64, int64)
    def bf16_round_images(worker, first, last, x, rounded, top, left):
        height, width = x.shape[2], x.shape[3]
        for task in range(first, last):  # one plane of one block of channels
            n, block = divmod(task, x.shape[1])
            for i in range(rounded.shape[2]):
                target, row = row_address(rounded, n, block, i), i - top
                if row < 0 or row >= height:
                    clear(target, 4 * rounded.shape[3] * LANES)
                    continue
                clear(target, 4 * left * LANES)
                target += 4 * left * LANES
                round_row(target, row_address(x, n, block, row), width * LANES)
                clear(target + 4 * width * LANES, 4 * (rounded.shape[3] - left - width) * LANES)

    return bf16_round_images


@intrinsic
def round_row(typing_context, target, source, count):
    """Write `count` float32 values from address `source` to `target`, with values of bf16."""

    def codegen(_context, builder, _signature, arguments):
        _each(builder, arguments, 4, upper_half)

    return types.void(*[types.int64] * 3), codegen


@intrinsic
def narrow_row(typing_context, target, source, count):
    """Write `count` float32 values from address `source` to `target`, as bf16."""

    def codegen(_context, builder, _signature, arguments):
        _each(builder, arguments, 2, narrowed)

    return types.void(*[types.int64] * 3), codegen


@intrinsic
def clear(typing_context, target, count):
    """Write `count` bytes of zeros at an address."""

    def codegen(_context, builder, _signature, arguments):
        byte = ir.IntType(8)
        cgutils.memset(builder, builder.inttoptr(arguments[0], byte.as_pointer()), arguments[1], 0)

    return types.void(types.int64, types.int64), codegen


def _each(builder, arguments, size, made):
    """Emit a loop over vectors, and one over the values that are left."""
    target, source, count = arguments
    whole = builder.and_(count, constant(-LANES))
    for kind, begin, end, step in (
        (ir.VectorType(_I32, LANES), constant(0), whole, LANES),
        (_I32, whole, count, 1),
    ):
        with cgutils.for_range_slice(builder, begin, end, constant(step), inc=True) as (index, _):
            value = builder.load(_at(builder, source, index, 4, kind), align=4)
            result = made(builder, value)
            builder.store(result, _at(builder, target, index, size, result.type), align=size)


def _at(builder, address, index, size, kind):
    place = builder.add(address, builder.mul(index, constant(size)))
    return builder.inttoptr(place, kind.as_pointer())


def upper_half(builder: ir.IRBuilder, bits: ir.Value) -> ir.Value:
    """Emit the bits of the nearest bf16 in the upper half of an int32, zeros below; scalars or vectors."""

    def each(number: int) -> ir.Constant:
        kind = bits.type
        return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)

    odd = builder.and_(builder.lshr(bits, each(16)), each(1))
    nearest = builder.add(builder.add(bits, each(0x7FFF)), odd)  # a carry may go on into the exponent
    magnitude = builder.and_(bits, each(0x7FFFFFFF))
    is_nan = builder.icmp_unsigned(">", magnitude, each(0x7F800000))
    quiet = builder.or_(bits, each(0x00400000))
    return builder.and_(builder.select(is_nan, quiet, nearest), each(-0x10000))


def rounded(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """Emit the nearest value of bf16 of a vector of float32."""
    bits = ir.VectorType(_I32, value.type.count)
    return builder.bitcast(upper_half(builder, builder.bitcast(value, bits)), value.type)


def narrowed(builder: ir.IRBuilder, bits: ir.Value) -> ir.Value:
    """Emit the nearest bf16 as int16 of the bits of float32 values; scalars or vectors."""
    half = ir.VectorType(_I16, bits.type.count) if isinstance(bits.type, ir.VectorType) else _I16
    sixteen = ir.Constant(bits.type, [16] * bits.type.count if half is not _I16 else 16)
    return builder.trunc(builder.lshr(upper_half(builder, bits), sixteen), half)
