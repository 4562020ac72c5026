"""Batch normalisation: moments of leaves in one pass over memory, then elementwise; channels are lanes.

No sum crosses lanes. The pixels of a leaf are taken in chunks that stay in the first-level cache: a chunk is
summed twice, for its mean and for its deviations from that, and merged into the leaf's moments in float64. So
memory is read once, no square of a mean is subtracted, and no chain of float32 is longer than a chunk. Chunks
and the order in them follow from the shape of a leaf alone.

What follows a normalisation elementwise, `Behind`, is done in the same passes. Its gradient is decided by the
value again: made anew of x, or read where something was added.
"""

from dataclasses import dataclass
from functools import lru_cache

from llvmlite import ir
from numba import float32, float64, int64, types
from numba.core import cgutils
from numba.extending import intrinsic

from layers.kernels.compile_time import CompileTime
from layers.kernels.jit import inline, kernel
from layers.kernels.rows import IMAGE, as_channels, row_address
from layers.kernels.simd import (
    LANES,
    VECTOR,
    constant,
    load,
    load_vector,
    pointer_to,
    splat,
    store_vector,
    vector_constant,
)
from layers.kernels.threads import Threads

CHUNK = 256
"""Pixels of a chunk, or a row where that is longer: 16 KB of one block of channels."""

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


ALONE = Behind()

BY_LEAF = float64[:, :, ::1]
BY_GROUP = float32[:, :, ::1]
BY_CHANNEL = float32[::1]


def moments(threads: Threads, x, leaves: int, result) -> None:
    """Write mean and sum of squared deviations from it of each leaf and channel.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES], or vectors [N, F]
    result : float64 [leaves, 2, C], C rounded up to LANES
    """
    x = as_channels(x)
    threads.run(_moments(), leaves * x.shape[1], 3 * x.size, x, len(x) // leaves, result)


@lru_cache(maxsize=1)
def _moments():
    @kernel(int64, int64, int64, IMAGE, int64, BY_LEAF)
    def batch_norm_moments(worker, first, last, x, per_leaf, result):
        _, blocks, rows, columns, _ = x.shape
        some, high = chunk_shape(per_leaf, rows, columns)
        between = result.strides[1]
        for task in range(first, last):
            leaf, block = divmod(task, blocks)
            target = result.ctypes.data + leaf * result.strides[0] + 8 * block * LANES
            clear_doubles(target, between)
            end, done = (leaf + 1) * per_leaf, 0
            for n in range(leaf * per_leaf, end, some):
                samples = min(some, end - n)
                for i in range(0, rows, high):
                    wide = min(high, rows - i)
                    source = row_address(x, n, block, i)
                    add_moments(
                        target, between, done, source, samples, x.strides[0], wide, x.strides[2], columns
                    )
                    done += samples * wide * columns

    return batch_norm_moments


def normalise(
    threads: Threads, x, statistics, weight, bias, y, *, behind: Behind = ALONE, addend=None
) -> None:
    """Write y = (x - mean) * (weight / deviation) + bias, and what is behind it; y may be x.

    Parameters
    ----------
    x, y : float32 [N, C/LANES, H, W, LANES], or vectors [N, F]
    statistics : float32 [groups, 2, C]
        Mean and 1 / deviation of equal runs of samples.
    weight, bias : float32 [C]
    addend
        Like x, where something is added.
    """
    x, y, addend = as_channels(x), as_channels(y), as_channels(x if addend is None else addend)
    work = (2 + behind.adds) * x.size
    threads.run(
        _normalise(behind), x.shape[0] * x.shape[1], work, x, addend, statistics, weight, bias, y
    )  # fmt: skip


@lru_cache
def _normalise(BEHIND):
    @kernel(int64, int64, int64, IMAGE, IMAGE, BY_GROUP, BY_CHANNEL, BY_CHANNEL, IMAGE)
    def batch_norm_normalise(worker, first, last, x, addend, statistics, weight, bias, y):
        _, blocks, rows, columns, _ = x.shape
        per_group = x.shape[0] // statistics.shape[0]
        for task in range(first, last):  # one plane of one block of channels
            n, block = divmod(task, blocks)
            mean, inverse = _statistics_of(statistics, n // per_group, block)
            lanes = 4 * block * LANES
            normalise_plane(
                BEHIND,
                row_address(y, n, block, 0), y.strides[2],
                row_address(x, n, block, 0), x.strides[2],
                row_address(addend, n, block, 0), addend.strides[2],
                rows, columns, mean, inverse, weight.ctypes.data + lanes, bias.ctypes.data + lanes,
            )  # fmt: skip

    return batch_norm_normalise


def slopes(
    threads: Threads, x, dy, leaves: int, statistics, weight, bias, result, *, behind: Behind = ALONE, y=None
) -> None:
    """Write the sums of dz and of dz * (x - mean) over each leaf and channel; z is what was normalised.

    Parameters
    ----------
    x, dy : float32 [N, C/LANES, H, W, LANES], or vectors [N, F]
    statistics, weight, bias
        As for `normalise`; a group has whole leaves, or all samples are of one.
    result : float64 [leaves, 2, C]
    y
        Where something was added.
    """
    x, dy, y = as_channels(x), as_channels(dy), as_channels(x if y is None else y)
    work = (3 + behind.adds) * x.size
    threads.run(
        _slopes(behind), leaves * x.shape[1], work, x, dy, y, len(x) // leaves, statistics, weight, bias,
        result,
    )  # fmt: skip


@lru_cache
def _slopes(BEHIND):
    @kernel(int64, int64, int64, IMAGE, IMAGE, IMAGE, int64, BY_GROUP, BY_CHANNEL, BY_CHANNEL, BY_LEAF)
    def batch_norm_slopes(worker, first, last, x, dy, y, per_leaf, statistics, weight, bias, result):
        _, blocks, rows, columns, _ = x.shape
        per_group = x.shape[0] // statistics.shape[0]
        some, high = chunk_shape(per_leaf, rows, columns)
        between = result.strides[1]
        for task in range(first, last):
            leaf, block = divmod(task, blocks)
            start, end = leaf * per_leaf, (leaf + 1) * per_leaf
            mean, inverse = _statistics_of(statistics, start // per_group, block)
            lanes = 4 * block * LANES
            target = result.ctypes.data + leaf * result.strides[0] + 8 * block * LANES
            clear_doubles(target, between)
            for n in range(start, end, some):
                samples = min(some, end - n)
                for i in range(0, rows, high):
                    add_slopes(
                        BEHIND, target, between,
                        row_address(dy, n, block, i), dy.strides[0], dy.strides[2],
                        row_address(x, n, block, i), x.strides[0], x.strides[2],
                        row_address(y, n, block, i), y.strides[0], y.strides[2],
                        samples, min(high, rows - i), columns,
                        mean, inverse, weight.ctypes.data + lanes, bias.ctypes.data + lanes,
                    )  # fmt: skip

    return batch_norm_slopes


def backward_data(
    threads: Threads,
    x,
    dy,
    statistics,
    terms,
    weight,
    bias,
    dx,
    *,
    behind: Behind = ALONE,
    y=None,
    addend_slope=None,
) -> None:
    """Write dx = (dz * terms[0] - terms[1]) - (x - mean) * terms[2]; dx may be dy.

    Parameters
    ----------
    x, dy, dx : float32 [N, C/LANES, H, W, LANES], or vectors [N, F]
    statistics, weight, bias
        As for `normalise`; z is what was normalised.
    terms : float32 [groups, 3, C]
    y
        Where something was added.
    addend_slope
        The gradient of that, which is dz.
    """
    x, dy, dx = as_channels(x), as_channels(dy), as_channels(dx)
    y, slope = as_channels(x if y is None else y), as_channels(dx if addend_slope is None else addend_slope)
    work = (3 + 2 * behind.adds) * x.size
    threads.run(
        _backward_data(behind), x.shape[0] * x.shape[1], work, x, dy, y, statistics, terms, weight, bias, dx,
        slope,
    )  # fmt: skip


@lru_cache
def _backward_data(BEHIND):
    @kernel(
        int64, int64, int64, IMAGE, IMAGE, IMAGE, BY_GROUP, BY_GROUP, BY_CHANNEL, BY_CHANNEL, IMAGE, IMAGE
    )
    def batch_norm_backward_data(
        worker, first, last, x, dy, y, statistics, terms, weight, bias, dx, addend_slope
    ):
        _, blocks, rows, columns, _ = x.shape
        per_group = x.shape[0] // statistics.shape[0]
        for task in range(first, last):  # one plane of one block of channels
            n, block = divmod(task, blocks)
            mean, inverse = _statistics_of(statistics, n // per_group, block)
            factor, level = _statistics_of(terms, n // per_group, block)
            lanes = 4 * block * LANES
            backward_plane(
                BEHIND,
                row_address(dx, n, block, 0), dx.strides[2],
                row_address(addend_slope, n, block, 0), addend_slope.strides[2],
                row_address(dy, n, block, 0), dy.strides[2],
                row_address(x, n, block, 0), x.strides[2],
                row_address(y, n, block, 0), y.strides[2],
                rows, columns, mean, inverse, weight.ctypes.data + lanes, bias.ctypes.data + lanes,
                factor, level, level + terms.strides[1],
            )  # fmt: skip

    return batch_norm_backward_data


@inline
def chunk_shape(samples, rows, columns):
    """Return the samples and the rows of a chunk: several whole planes, or rows of one."""
    pixels = rows * columns
    if 2 * pixels <= CHUNK:
        return min(samples, CHUNK // pixels), rows
    return 1, min(rows, max(1, CHUNK // columns))


@inline
def _statistics_of(statistics, group, block):
    """Return the addresses of a group's first and second row, at the first channel of a block."""
    first = statistics.ctypes.data + group * statistics.strides[0] + 4 * block * LANES
    return first, first + statistics.strides[1]


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
            store_vector(builder, value, _row(builder, y, i.index, y_row_bytes), offset)

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
            store_vector(builder, own, _row(builder, targets[0], i.index, targets[1]), offset)

    return types.void(behind, *[types.int64] * 19), codegen


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
