"""Batch normalisation of whole groups, one block of channels after the other.

What `batch_norm` does in two calls, with the statistics of all groups merged between them, a task does for
one block of channels: that is still in cache when it is read again. The bits are the same. A task needs all
samples of a group, and there are only as many tasks as blocks.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import float32, float64, int64

from layers.arithmetic import ceil_div
from layers.kernels.batch_norm import (
    BY_CHANNEL,
    BY_GROUP,
    BY_LEAF,
    backward_sample,
    leaf_moments,
    leaf_slopes,
    normalise_sample,
    stored,
)
from layers.kernels.jit import inline, kernel
from layers.kernels.norm_pixels import ALONE, Behind
from layers.kernels.rows import IMAGE, as_channels
from layers.kernels.simd import LANES, finish_streaming
from layers.kernels.threads import Threads

_NOTED = float64[:, :]

MOST_IDLE = 1 / 8
"""Share of the threads' time that may be lost where blocks are no multiple of them."""


def suits(blocks: int, threads: int) -> bool:
    """Say whether so many blocks of channels keep so many threads at work."""
    return ceil_div(blocks, threads) * threads <= (1 + MOST_IDLE) * blocks


class Noted(NamedTuple):
    """What is noted of the group of each leaf: float64 [leaves, channels] without padding."""

    mean: Any
    variance: Any
    """Unbiased."""


def forward(
    threads: Threads, x, leaves: int, group_leaves: int, epsilon: float, moments, statistics, noted: Noted,
    weight, bias, y, *, behind: Behind = ALONE, addend=None,
) -> None:  # fmt: skip
    """Write the statistics of each group, and y; see `batch_norm.moments` and `batch_norm.normalise`.

    Parameters
    ----------
    group_leaves : int
        Leaves of a group, a power of two.
    moments : float64 [leaves, 2, C]
        Those of each group are written in the place of its first leaf.
    statistics : float32 [groups, 2, C]
    """
    x, y, addend = as_channels(x), as_channels(y), as_channels(x if addend is None else addend)
    work, behind = (5 + behind.adds) * x.size, stored(behind, y, x)
    threads.run(
        _forward(behind), x.shape[1], work, x, addend, leaves, group_leaves, epsilon, moments, statistics,
        *noted, weight, bias, y,
    )  # fmt: skip


@lru_cache
def _forward(BEHIND):
    PAST = BEHIND.past == 1

    @kernel(
        int64, int64, int64, IMAGE, IMAGE, int64, int64, float64, BY_LEAF, BY_GROUP, _NOTED, _NOTED,
        BY_CHANNEL, BY_CHANNEL, IMAGE,
    )  # fmt: skip
    def batch_norm_forward(
        worker, first, last, x, addend, leaves, group_leaves, epsilon, moments, statistics, noted_mean,
        noted_variance, weight, bias, y,
    ):  # fmt: skip
        samples, per_leaf = x.shape[0], x.shape[0] // leaves
        values = per_leaf * x.shape[2] * x.shape[3]
        for block in range(first, last):
            for leaf in range(leaves):
                leaf_moments(x, leaf, block, per_leaf, moments)
            _merge(moments, block, values, group_leaves)
            for group in range(statistics.shape[0]):
                at = group * group_leaves
                for channel in range(block * LANES, (block + 1) * LANES):
                    variance = moments[at, 1, channel] / (values * group_leaves)
                    statistics[group, 0, channel] = float32(moments[at, 0, channel])
                    statistics[group, 1, channel] = float32(1 / np.sqrt(variance + epsilon))
                for channel in range(block * LANES, min((block + 1) * LANES, noted_mean.shape[1])):
                    unbiased = moments[at, 1, channel] / max(1, values * group_leaves - 1)
                    for leaf in range(at, at + group_leaves):
                        noted_mean[leaf, channel] = moments[at, 0, channel]
                        noted_variance[leaf, channel] = unbiased
            for n in range(samples):
                normalise_sample(BEHIND, n, block, x, addend, statistics, weight, bias, y)
        if PAST:
            finish_streaming()

    return batch_norm_forward


def backward(
    threads: Threads, x, dy, leaves: int, group_leaves: int, statistics, weight, bias, slopes, sums, terms,
    gradients, dx, *, behind: Behind = ALONE, y=None, addend_slope=None,
) -> None:  # fmt: skip
    """Write the gradients of weight and bias, and dx; see `batch_norm.slopes` and `batch_norm.backward_data`.

    Parameters
    ----------
    group_leaves : int
        Leaves of a group, a power of two.
    slopes, sums : float64 [leaves, 2, C]
        Working memory.
    terms : float32 [groups, 3, C]
        Working memory.
    gradients : (float32 [C], float32 [C])
        Of bias and weight.
    """
    x, dy, dx = as_channels(x), as_channels(dy), as_channels(dx)
    y, slope = as_channels(x if y is None else y), as_channels(dx if addend_slope is None else addend_slope)
    work, behind = (6 + 3 * behind.adds) * x.size, stored(behind, dx, dy)
    threads.run(
        _backward(behind), x.shape[1], work, x, dy, y, leaves, group_leaves, statistics, weight, bias, slopes,
        sums, terms, *gradients, dx, slope,
    )  # fmt: skip


@lru_cache
def _backward(BEHIND):
    PAST = BEHIND.past == 1

    @kernel(
        int64, int64, int64, IMAGE, IMAGE, IMAGE, int64, int64, BY_GROUP, BY_CHANNEL, BY_CHANNEL, BY_LEAF,
        BY_LEAF, BY_GROUP, BY_CHANNEL, BY_CHANNEL, IMAGE, IMAGE,
    )  # fmt: skip
    def batch_norm_backward(
        worker, first, last, x, dy, y, leaves, group_leaves, statistics, weight, bias, slopes, sums, terms,
        bias_gradient, weight_gradient, dx, addend_slope,
    ):  # fmt: skip
        samples, per_leaf = x.shape[0], x.shape[0] // leaves
        count = per_leaf * x.shape[2] * x.shape[3] * group_leaves
        for block in range(first, last):
            for leaf in range(leaves):
                leaf_slopes(BEHIND, leaf, block, x, dy, y, per_leaf, statistics, weight, bias, slopes)
            _add(slopes, sums, block, group_leaves)
            for group in range(statistics.shape[0]):
                at = group * group_leaves
                for channel in range(block * LANES, (block + 1) * LANES):
                    inverse = float64(statistics[group, 1, channel])
                    factor = inverse * float64(weight[channel])
                    terms[group, 0, channel] = float32(factor)
                    terms[group, 1, channel] = float32(factor * (sums[at, 0, channel] / count))
                    bent = factor * (inverse * inverse)
                    terms[group, 2, channel] = float32(bent * (sums[at, 1, channel] / count))
            _add_gradients(slopes, statistics, sums, block)
            for channel in range(block * LANES, (block + 1) * LANES):
                bias_gradient[channel] = float32(sums[0, 0, channel])
                weight_gradient[channel] = float32(sums[0, 1, channel])
            for n in range(samples):
                backward_sample(BEHIND, n, block, x, dy, y, statistics, terms, weight, bias, dx, addend_slope)
        if PAST:
            finish_streaming()

    return batch_norm_backward


@inline
def _merge(moments, block, values, group_leaves):
    """Merge the moments of the leaves of each group as `moments.merge_moments` does, in place."""
    apart, count = 1, values
    while apart < group_leaves:
        for low in range(0, moments.shape[0], 2 * apart):
            high = low + apart
            for channel in range(block * LANES, (block + 1) * LANES):
                step = moments[high, 0, channel] - moments[low, 0, channel]
                squares = moments[low, 1, channel] + moments[high, 1, channel]
                moments[low, 0, channel] += step * 0.5
                moments[low, 1, channel] = squares + step * step * (count * 0.5)
        apart, count = 2 * apart, 2 * count


@inline
def _add(slopes, sums, block, group_leaves):
    """Add up the leaves of each group as `moments.add_rows` does, each in the place of its first leaf."""
    for leaf in range(slopes.shape[0]):
        for which in range(2):
            for channel in range(block * LANES, (block + 1) * LANES):
                sums[leaf, which, channel] = slopes[leaf, which, channel]
    apart = 1
    while apart < group_leaves:
        for low in range(0, slopes.shape[0], 2 * apart):
            for which in range(2):
                for channel in range(block * LANES, (block + 1) * LANES):
                    sums[low, which, channel] += sums[low + apart, which, channel]
        apart *= 2


@inline
def _add_gradients(slopes, statistics, sums, block):
    """Add up what all leaves give to the gradients of bias and weight, rounded to float32, as a tree."""
    leaves = slopes.shape[0]
    per_group = leaves // statistics.shape[0]
    for leaf in range(leaves):
        for channel in range(block * LANES, (block + 1) * LANES):
            inverse = float64(statistics[leaf // per_group, 1, channel])
            sums[leaf, 0, channel] = float32(slopes[leaf, 0, channel])
            sums[leaf, 1, channel] = float32(slopes[leaf, 1, channel] * inverse)
    apart = 1
    while apart < leaves:
        for low in range(0, leaves, 2 * apart):
            for which in range(2):
                for channel in range(block * LANES, (block + 1) * LANES):
                    one, other = sums[low, which, channel], sums[low + apart, which, channel]
                    sums[low, which, channel] = float32(one) + float32(other)
        apart *= 2
