"""The inner loops of batch normalisation: a chunk or a plane of one block of channels, whose lanes they are.

What follows a normalisation elementwise, `Behind`, is done in the same loops. Its gradient is decided by the
value again: made anew of x, or read where something was added.
"""

from dataclasses import dataclass

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from layers.kernels.bf16 import rounded
from layers.kernels.compile_time import CompileTime
from layers.kernels.simd import (
    LANES,
    VECTOR,
    constant,
    load,
    load_vector,
    pointer_to,
    splat,
    store,
    store_past,
    store_vector,
    vector_constant,
)

WAYS = 2
"""Chains of each sum over a row; the columns take turns, those left over go to the first."""

_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)

NOTHING, RECTIFIED, CLIPPED = range(3)
"""Activations: none, ReLU, ReLU6."""


@dataclass(frozen=True)
class Behind(CompileTime):
    """What is done with a normalised value."""

    adds: int = 0
    """Whether another image is added."""
    activation: int = NOTHING
    rounds: int = 0
    """Whether the value is stored rounded to bf16: so rounded, made anew of x, it decides the gradient."""
    past: int = 0
    """Whether results are stored past the caches: where they do not fit, a store does not read them first."""


ALONE = Behind()


@intrinsic
def clear_doubles(typing_context, target, between):
    """Write zeros into LANES float64 at address `target`, and into those `between` bytes further on."""

    def codegen(_context, builder, _signature, arguments):
        zero = ir.Constant(_DOUBLES, [0.0] * LANES)
        for address in _both(builder, *arguments):
            _store_doubles(builder, zero, address)

    return types.void(types.int64, types.int64), codegen


@intrinsic
def add_moments(
    typing_context, target, between, done, source, samples, sample_bytes, rows, row_bytes, columns
):
    """Merge the moments of a chunk into those of the `done` pixels before it (Chan et al. 1983).

    The mean of a chunk is rounded to float32, and what that leaves out corrected by the sum of deviations.

    Parameters
    ----------
    target, between : int64
        Address of the LANES means (float64), and how many bytes further on the squared deviations are.
    source : int64
        Address of the first pixel.
    samples, sample_bytes, rows, row_bytes, columns : int64
        Extents of the chunk, and the distances of its samples and rows.
    """

    def codegen(_context, builder, _signature, arguments):
        target, between, done, source, samples, sample_bytes, rows, row_bytes, columns = arguments
        pixels = builder.mul(builder.mul(samples, rows), columns)
        extents = samples, rows, columns
        place = source, sample_bytes, row_bytes
        total = _Chains(builder)
        _every_pixel(builder, extents, [place], total.add)
        count = splat(builder, builder.sitofp(pixels, ir.FloatType()))
        middle = builder.fdiv(total.sum(), count)
        off, squares = _Chains(builder), _Chains(builder)

        def deviate(way, x):
            deviation = builder.fsub(x, middle)
            off.add(way, deviation)
            squares.add(way, builder.fmul(deviation, deviation))

        _every_pixel(builder, extents, [place], deviate)
        double = ir.DoubleType()
        new, old = builder.sitofp(pixels, double), builder.sitofp(done, double)
        share = builder.fdiv(new, builder.fadd(new, old))
        off_sum = _widened(builder, off.sum())
        off_mean = builder.fdiv(off_sum, splat(builder, new))
        mean = builder.fadd(_widened(builder, middle), off_mean)
        rest = builder.fsub(_widened(builder, squares.sum()), builder.fmul(off_sum, off_mean))
        zero = ir.Constant(_DOUBLES, [0.0] * LANES)
        rest = builder.select(builder.fcmp_ordered("<", rest, zero), zero, rest)  # false for NaN
        mean_at, squares_at = _both(builder, target, between)
        before = _load_doubles(builder, mean_at)
        step = builder.fsub(mean, before)
        mean = builder.fadd(before, builder.fmul(step, splat(builder, share)))
        apart = builder.fmul(builder.fmul(step, step), splat(builder, builder.fmul(old, share)))
        rest = builder.fadd(_load_doubles(builder, squares_at), builder.fadd(rest, apart))
        _store_doubles(builder, mean, mean_at)
        _store_doubles(builder, rest, squares_at)

    return types.void(*[types.int64] * 9), codegen


@intrinsic
def add_slopes(
    typing_context, behind, target, between,
    dy, dy_sample_bytes, dy_row_bytes, x, x_sample_bytes, x_row_bytes, y, y_sample_bytes, y_row_bytes,
    samples, rows, columns, mean, inverse, weight, bias,
):  # fmt: skip
    """Add the sums of dz and dz * (x - mean) over a chunk to those at `target`; see `slopes`, `add_moments`.

    Parameters
    ----------
    mean, inverse, weight, bias : int64
        Addresses of LANES float32 each.
    """
    follows = behind.value

    def codegen(_context, builder, _signature, arguments):
        target, between, *places = arguments[1:12]
        samples, rows, columns, *by_channel = arguments[12:]
        channel = _Channel(builder, *by_channel)
        plain, weighted = _Chains(builder), _Chains(builder)

        def multiply(way, dy, x, *y):
            dz = _slope_before(builder, follows, dy, x, y, channel)
            plain.add(way, dz)
            weighted.add(way, builder.fmul(dz, builder.fsub(x, channel.mean)))

        read = [places[:3], places[3:6], *([places[6:]] if follows.adds else [])]
        _every_pixel(builder, (samples, rows, columns), read, multiply)
        for chains, address in zip((plain, weighted), _both(builder, target, between), strict=True):
            total = builder.fadd(_load_doubles(builder, address), _widened(builder, chains.sum()))
            _store_doubles(builder, total, address)

    return types.void(behind, *[types.int64] * 18), codegen


@intrinsic
def normalise_plane(
    typing_context, behind, y, y_row_bytes, x, x_row_bytes, addend, addend_row_bytes, rows, columns,
    mean, inverse, weight, bias,
):  # fmt: skip
    """Write rows x columns pixels of y; all but the extents are addresses and bytes; see `normalise`."""
    follows = behind.value

    def codegen(_context, builder, _signature, arguments):
        y, y_row_bytes, x, x_row_bytes, addend, addend_row_bytes, rows, columns, *by_channel = arguments[1:]
        channel = _Channel(builder, *by_channel)
        with cgutils.for_range(builder, rows) as i, cgutils.for_range(builder, columns) as j:
            offset = builder.mul(j.index, constant(LANES))
            value = channel.normalised(load_vector(builder, _row(builder, x, i.index, x_row_bytes), offset))
            if follows.adds:
                added = load_vector(builder, _row(builder, addend, i.index, addend_row_bytes), offset)
                value = builder.fadd(value, added)
            value = _activated(builder, follows, value)
            _put(builder, follows, value, _row(builder, y, i.index, y_row_bytes), offset)

    return types.void(behind, *[types.int64] * 12), codegen


@intrinsic
def backward_plane(
    typing_context, behind, dx, dx_row_bytes, addend_slope, addend_row_bytes, dy, dy_row_bytes,
    x, x_row_bytes, y, y_row_bytes, rows, columns, mean, inverse, weight, bias, factor, level, slope,
):  # fmt: skip
    """Write dx = (dz * factor - level) - (x - mean) * slope of a plane; see `backward_data`."""
    follows = behind.value

    def codegen(_context, builder, _signature, arguments):
        targets, read = arguments[1:5], arguments[5:11]
        rows, columns, *by_channel = arguments[11:]
        channel = _Channel(builder, *by_channel[:4])
        factor, level, slope = (load_vector(builder, at, constant(0)) for at in by_channel[4:])
        with cgutils.for_range(builder, rows) as i, cgutils.for_range(builder, columns) as j:
            offset = builder.mul(j.index, constant(LANES))
            places = list(zip(read[::2], read[1::2], strict=True))[: 3 if follows.adds else 2]
            dy, x, *y = (
                load_vector(builder, _row(builder, at, i.index, row_bytes), offset)
                for at, row_bytes in places
            )
            dz = _slope_before(builder, follows, dy, x, y, channel)
            if follows.adds:
                store_vector(builder, dz, _row(builder, targets[2], i.index, targets[3]), offset)
            bent = builder.fmul(builder.fsub(x, channel.mean), slope)
            own = builder.fsub(builder.fsub(builder.fmul(dz, factor), level), bent)
            _put(builder, follows, own, _row(builder, targets[0], i.index, targets[1]), offset)

    return types.void(behind, *[types.int64] * 19), codegen


def _put(builder, follows, vector, address, offset):
    store_to = store_past if follows.past else store
    store_to(builder, vector, pointer_to(builder, address), offset)


class _Channel:
    """What belongs to LANES channels, in registers."""

    def __init__(self, builder, mean, inverse, weight, bias):
        self._builder = builder
        self.mean, inverse, weight, self._bias = (
            load_vector(builder, at, constant(0)) for at in (mean, inverse, weight, bias)
        )
        self.factor = builder.fmul(inverse, weight)

    def normalised(self, x):
        """Return the value of x behind the normalisation."""
        builder = self._builder
        return builder.fadd(builder.fmul(builder.fsub(x, self.mean), self.factor), self._bias)


def _activated(builder, follows, value):
    """Emit an activation as `layers.kernels.relu` and `activations` compute it."""
    zero, six = vector_constant(0), vector_constant(6)
    if follows.activation != NOTHING:
        value = builder.select(builder.fcmp_ordered("<=", value, zero), zero, value)  # false for NaN
    if follows.activation == CLIPPED:
        value = builder.select(builder.fcmp_ordered(">=", value, six), six, value)
    return value


def _slope_before(builder, follows, dy, x, y, channel):
    """Emit the gradient of the normalised value: dy, or 0 where the activation was at its end."""
    if follows.activation == NOTHING:
        return dy
    zero, six = vector_constant(0), vector_constant(6)
    value = y[0] if y else channel.normalised(x)
    if follows.rounds and not y:
        value = rounded(builder, value)
    dz = builder.select(builder.fcmp_ordered("<=", value, zero), zero, dy)
    if follows.activation == CLIPPED:
        dz = builder.select(builder.fcmp_ordered(">=", value, six), zero, dz)
    return dz


class _Chains:
    """A sum in WAYS chains of additions, in registers."""

    def __init__(self, builder):
        self._builder = builder
        self._parts = [cgutils.alloca_once(builder, VECTOR) for _ in range(WAYS)]
        for part in self._parts:
            builder.store(vector_constant(0), part)

    def add(self, way, vector):
        part = self._parts[way]
        self._builder.store(self._builder.fadd(self._builder.load(part), vector), part)

    def sum(self):
        total, *others = (self._builder.load(part) for part in self._parts)
        for other in others:
            total = self._builder.fadd(total, other)
        return total


def _every_pixel(builder, extents, places, body):
    """Emit loops over the pixels of a chunk with ``body(way, *vectors)`` inside.

    `places` are (address, bytes between samples, bytes between rows) of each array that is read.
    """
    samples, rows, columns = extents
    turns = builder.sdiv(columns, constant(WAYS))
    even = builder.mul(turns, constant(WAYS))
    with cgutils.for_range(builder, samples) as n, cgutils.for_range(builder, rows) as i:
        starts = []
        for address, sample_bytes, row_bytes in places:
            sample = _row(builder, address, n.index, sample_bytes)
            starts.append(pointer_to(builder, _row(builder, sample, i.index, row_bytes)))

        def vectors(column):
            offset = builder.mul(column, constant(LANES))
            return [load(builder, start, offset) for start in starts]

        with cgutils.for_range(builder, turns) as turn:
            for way in range(WAYS):
                column = builder.add(builder.mul(turn.index, constant(WAYS)), constant(way))
                body(way, *vectors(column))
        with cgutils.for_range(builder, builder.sub(columns, even)) as left:
            body(0, *vectors(builder.add(even, left.index)))


def _row(builder, address, index, step):
    """Emit the address of a row."""
    return builder.add(address, builder.mul(index, step))


def _both(builder, target, between):
    """Emit the addresses of the two sums of a leaf."""
    return target, builder.add(target, between)


def _widened(builder, vector):
    return builder.fpext(vector, _DOUBLES)


def _load_doubles(builder, address):
    return builder.load(builder.inttoptr(address, _DOUBLES.as_pointer()), align=8)


def _store_doubles(builder, vector, address):
    builder.store(vector, builder.inttoptr(address, _DOUBLES.as_pointer()), align=8)
