"""Batch normalisation: moments of leaves in one pass over memory, then elementwise; channels are lanes.

No sum crosses lanes. The pixels of a leaf are taken in chunks that stay in the first-level cache: a chunk is
summed twice, for its mean and for its deviations from that, and merged into the leaf's moments in float64. So
memory is read once, no square of a mean is subtracted, and no chain of float32 is longer than a chunk. Chunks
and the order in them follow from the shape of a leaf alone.

What follows elementwise, `norm_pixels.Behind`, is done in the same passes.
"""

from dataclasses import replace
from functools import lru_cache

from numba import float32, float64, int64

from layers.kernels.caches import caches
from layers.kernels.jit import inline, kernel
from layers.kernels.norm_pixels import (
    ALONE,
    Behind,
    add_moments,
    add_slopes,
    backward_plane,
    clear_doubles,
    normalise_plane,
)
from layers.kernels.rows import IMAGE, as_channels, row_address
from layers.kernels.simd import LANES, finish_streaming
from layers.kernels.threads import Threads

CHUNK = 256
"""Pixels of a chunk, or a row where that is longer: 16 KB of one block of channels."""

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
        for task in range(first, last):
            leaf, block = divmod(task, x.shape[1])
            leaf_moments(x, leaf, block, per_leaf, result)

    return batch_norm_moments


@inline
def leaf_moments(x, leaf, block, per_leaf, result):
    """Write the moments of a leaf of `per_leaf` samples, of one block of channels."""
    _, _, rows, columns, _ = x.shape
    some, high = chunk_shape(per_leaf, rows, columns)
    between = result.strides[1]
    target = result.ctypes.data + leaf * result.strides[0] + 8 * block * LANES
    clear_doubles(target, between)
    end, done = (leaf + 1) * per_leaf, 0
    for n in range(leaf * per_leaf, end, some):
        samples = min(some, end - n)
        for i in range(0, rows, high):
            wide = min(high, rows - i)
            source = row_address(x, n, block, i)
            add_moments(target, between, done, source, samples, x.strides[0], wide, x.strides[2], columns)
            done += samples * wide * columns


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
    work, behind = (2 + behind.adds) * x.size, stored(behind, y, x)
    threads.run(
        _normalise(behind), x.shape[0] * x.shape[1], work, x, addend, statistics, weight, bias, y
    )  # fmt: skip


@lru_cache
def _normalise(BEHIND):
    PAST = BEHIND.past == 1

    @kernel(int64, int64, int64, IMAGE, IMAGE, BY_GROUP, BY_CHANNEL, BY_CHANNEL, IMAGE)
    def batch_norm_normalise(worker, first, last, x, addend, statistics, weight, bias, y):
        for task in range(first, last):  # one plane of one block of channels
            n, block = divmod(task, x.shape[1])
            normalise_sample(BEHIND, n, block, x, addend, statistics, weight, bias, y)
        if PAST:
            finish_streaming()

    return batch_norm_normalise


@inline
def normalise_sample(BEHIND, n, block, x, addend, statistics, weight, bias, y):
    """Write one plane of one block of channels."""
    mean, inverse = statistics_of(statistics, n // (x.shape[0] // statistics.shape[0]), block)
    lanes = 4 * block * LANES
    rows, columns = _extents((x, y, addend))
    normalise_plane(
        BEHIND,
        row_address(y, n, block, 0), y.strides[2],
        row_address(x, n, block, 0), x.strides[2],
        row_address(addend, n, block, 0), addend.strides[2],
        rows, columns, mean, inverse, weight.ctypes.data + lanes, bias.ctypes.data + lanes,
    )  # fmt: skip


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
        for task in range(first, last):
            leaf, block = divmod(task, x.shape[1])
            leaf_slopes(BEHIND, leaf, block, x, dy, y, per_leaf, statistics, weight, bias, result)

    return batch_norm_slopes


@inline
def leaf_slopes(BEHIND, leaf, block, x, dy, y, per_leaf, statistics, weight, bias, result):
    """Write the sums of a leaf of `per_leaf` samples, of one block of channels."""
    _, _, rows, columns, _ = x.shape
    some, high = chunk_shape(per_leaf, rows, columns)
    between = result.strides[1]
    start, end = leaf * per_leaf, (leaf + 1) * per_leaf
    mean, inverse = statistics_of(statistics, start // (x.shape[0] // statistics.shape[0]), block)
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
    work, behind = (3 + 2 * behind.adds) * x.size, stored(behind, dx, dy)
    threads.run(
        _backward_data(behind), x.shape[0] * x.shape[1], work, x, dy, y, statistics, terms, weight, bias, dx,
        slope,
    )  # fmt: skip


@lru_cache
def _backward_data(BEHIND):
    PAST = BEHIND.past == 1

    @kernel(
        int64, int64, int64, IMAGE, IMAGE, IMAGE, BY_GROUP, BY_GROUP, BY_CHANNEL, BY_CHANNEL, IMAGE, IMAGE
    )
    def batch_norm_backward_data(
        worker, first, last, x, dy, y, statistics, terms, weight, bias, dx, addend_slope
    ):
        for task in range(first, last):  # one plane of one block of channels
            n, block = divmod(task, x.shape[1])
            backward_sample(BEHIND, n, block, x, dy, y, statistics, terms, weight, bias, dx, addend_slope)
        if PAST:
            finish_streaming()

    return batch_norm_backward_data


@inline
def backward_sample(BEHIND, n, block, x, dy, y, statistics, terms, weight, bias, dx, addend_slope):
    """Write one plane of one block of channels of dx."""
    group = n // (x.shape[0] // statistics.shape[0])
    mean, inverse = statistics_of(statistics, group, block)
    factor, level = statistics_of(terms, group, block)
    lanes = 4 * block * LANES
    rows, columns = _extents((x, dx, dy, addend_slope, y))
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


def stored(behind: Behind, result, read) -> Behind:
    """Return the same with results stored past the caches, where they fit none and lie over nothing read."""
    if result.nbytes <= caches().l3:
        return behind
    address, _ = result.__array_interface__["data"]
    is_own = address != read.__array_interface__["data"][0]
    return replace(behind, past=1) if is_own and address % (4 * LANES) == 0 else behind


@inline
def _extents(images):
    """Return rows and columns of a plane: one row where no halo parts the rows of any of these images."""
    rows, columns = images[0].shape[2], images[0].shape[3]
    for image in images:
        if image.strides[2] != 4 * LANES * columns:
            return rows, columns
    return 1, rows * columns


@inline
def chunk_shape(samples, rows, columns):
    """Return the samples and the rows of a chunk: several whole planes, or rows of one."""
    pixels = rows * columns
    if 2 * pixels <= CHUNK:
        return min(samples, CHUNK // pixels), rows
    return 1, min(rows, max(1, CHUNK // columns))


@inline
def statistics_of(statistics, group, block):
    """Return the addresses of a group's first and second row, at the first channel of a block."""
    first = statistics.ctypes.data + group * statistics.strides[0] + 4 * block * LANES
    return first, first + statistics.strides[1]
