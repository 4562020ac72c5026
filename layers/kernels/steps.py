"""Steps along a direction on a strip of flat parameters: LARS, LAMB's last part, and averages of weights."""

from functools import lru_cache

from numba import float32, int64

from layers.kernels.jit import kernel

_VALUES = float32[::1]


def lars(weights, gradients, velocity, *, rate: float, momentum: float, weight_decay: float) -> None:
    """Overwrite velocity and weights, element by element, on the calling thread.

    ``v = momentum * v + rate * (gradient + weight_decay * w); w -= v``.
    """
    _lars()(0, 0, len(weights), weights, gradients, velocity, rate, momentum, weight_decay)


def descend(weights, direction, *, rate: float) -> None:
    """Overwrite the weights: ``w -= rate * direction``."""
    _descend()(0, 0, len(weights), weights, direction, rate)


def approach(averages, weights, *, share: float) -> None:
    """Overwrite averages: ``a += share * (w - a)``."""
    _approach()(0, 0, len(weights), averages, weights, share)


@lru_cache(maxsize=1)
def _lars():
    @kernel(int64, int64, int64, _VALUES, _VALUES, _VALUES, float32, float32, float32)
    def lars_update(worker, first, last, weights, gradients, velocity, rate, momentum, weight_decay):
        for i in range(first, last):
            step = rate * (gradients[i] + weight_decay * weights[i])
            velocity[i] = momentum * velocity[i] + step
            weights[i] -= velocity[i]

    return lars_update


@lru_cache(maxsize=1)
def _descend():
    @kernel(int64, int64, int64, _VALUES, _VALUES, float32)
    def descend_update(worker, first, last, weights, direction, rate):
        for i in range(first, last):
            weights[i] -= rate * direction[i]

    return descend_update


@lru_cache(maxsize=1)
def _approach():
    @kernel(int64, int64, int64, _VALUES, _VALUES, float32)
    def approach_update(worker, first, last, averages, weights, share):
        for i in range(first, last):
            averages[i] += share * (weights[i] - averages[i])

    return approach_update
