"""Layer normalisation of vectors; one sample a task, sums over its features in order, in float64."""

import math
from functools import lru_cache

from numba import float32, float64, int64

from layers.kernels.jit import kernel
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads

VECTORS = float32[:, :]
BY_FEATURE = float32[::1]
BY_SAMPLE = float32[:, ::1]


def forward(threads: Threads, x, features: int, epsilon: float, weight, bias, statistics, y) -> None:
    """Write y = weight * (x - mean) / sqrt(variance + epsilon) + bias; y may be x.

    Parameters
    ----------
    x, y : float32 [N, F], F rounded up to LANES
    features : int
        Of the mean; those behind them become zero.
    weight, bias : float32 [F]
    statistics : float32 [N, 2]
        Overwritten: mean, and 1 / sqrt(variance + epsilon).
    """
    threads.run(_forward(), len(x), 8 * x.size, x, features, epsilon, weight, bias, statistics, y)


@lru_cache(maxsize=1)
def _forward():
    @kernel(int64, int64, int64, VECTORS, int64, float64, BY_FEATURE, BY_FEATURE, BY_SAMPLE, VECTORS)
    def layer_norm_forward(worker, first, last, x, features, epsilon, weight, bias, statistics, y):
        for n in range(first, last):
            total = 0.0
            for e in range(features):
                total += float64(x[n, e])
            middle = total / features
            squares = 0.0
            for e in range(features):
                squares += (float64(x[n, e]) - middle) * (float64(x[n, e]) - middle)
            mean = float32(middle)
            inverse = float32(1.0 / math.sqrt(squares / features + epsilon))
            statistics[n, 0], statistics[n, 1] = mean, inverse
            for e in range(features):
                y[n, e] = (x[n, e] - mean) * inverse * weight[e] + bias[e]
            for e in range(features, y.shape[1]):
                y[n, e] = float32(0)

    return layer_norm_forward


def backward_data(threads: Threads, x, dy, features: int, weight, statistics, dx) -> None:
    """Write dx; arrays as for `forward`, dx may be dy."""
    threads.run(_backward_data(), len(x), 8 * x.size, x, dy, features, weight, statistics, dx)


@lru_cache(maxsize=1)
def _backward_data():
    @kernel(int64, int64, int64, VECTORS, VECTORS, int64, BY_FEATURE, BY_SAMPLE, VECTORS)
    def layer_norm_backward_data(worker, first, last, x, dy, features, weight, statistics, dx):
        for n in range(first, last):
            mean, inverse = statistics[n, 0], statistics[n, 1]
            plain = weighted = 0.0
            for e in range(features):
                own = float64(dy[n, e] * weight[e])
                plain += own
                weighted += own * float64((x[n, e] - mean) * inverse)
            level, slope = float32(plain / features), float32(weighted / features)
            for e in range(features):
                normal = (x[n, e] - mean) * inverse
                dx[n, e] = ((dy[n, e] * weight[e] - level) - normal * slope) * inverse
            for e in range(features, dx.shape[1]):
                dx[n, e] = float32(0)

    return layer_norm_backward_data


def backward_weights(threads: Threads, x, dy, leaves: int, statistics, sums) -> None:
    """Write the sums of dy * (x - mean) * inverse, and of dy, over the samples of each leaf.

    Parameters
    ----------
    sums : float64 [leaves, 2, F]
    """
    tasks = leaves * (x.shape[1] // LANES)
    threads.run(_backward_weights(), tasks, 4 * x.size, x, dy, len(x) // leaves, statistics, sums)


@lru_cache(maxsize=1)
def _backward_weights():
    @kernel(int64, int64, int64, VECTORS, VECTORS, int64, BY_SAMPLE, float64[:, :, ::1])
    def layer_norm_backward_weights(worker, first, last, x, dy, per_leaf, statistics, sums):
        blocks = x.shape[1] // LANES
        for task in range(first, last):
            leaf, block = divmod(task, blocks)
            begin, end = block * LANES, (block + 1) * LANES
            for e in range(begin, end):
                sums[leaf, 0, e] = sums[leaf, 1, e] = 0.0
            for n in range(leaf * per_leaf, (leaf + 1) * per_leaf):
                mean, inverse = statistics[n, 0], statistics[n, 1]
                for e in range(begin, end):
                    sums[leaf, 0, e] += float64(dy[n, e] * ((x[n, e] - mean) * inverse))
                    sums[leaf, 1, e] += float64(dy[n, e])

    return layer_norm_backward_weights
