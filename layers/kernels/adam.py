"""The updates of Adam's kind on a strip of flat parameters."""

from functools import lru_cache

import numpy as np
from numba import float32, int64

from layers.kernels.jit import kernel

_VALUES = float32[::1]


def adamw(
    weights, gradients, first_moment, second_moment, *,
    betas: tuple[float, float], eps: float, root: float, step: float, shrink: float,
) -> None:  # fmt: skip
    """Overwrite moments and weights, element by element, on the calling thread.

    ``m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g * g``, then
    ``w -= shrink * w + step * (m / (root * sqrt(v) + eps))``. The corrections of the moments' bias are in
    `step` and `root`.
    """
    beta1, beta2 = betas
    _adamw()(
        0, 0, len(weights), weights, gradients, first_moment, second_moment,
        beta1, 1 - beta1, beta2, 1 - beta2, eps, root, step, shrink,
    )  # fmt: skip


def lamb_direction(
    weights, gradients, first_moment, second_moment, *,
    betas: tuple[float, float], eps: float, root: float, scale: float, decay: float,
) -> None:  # fmt: skip
    """Overwrite the moments as `adamw` does, and the gradients with the direction of LAMB.

    It is ``scale * m / (root * sqrt(v) + eps) + decay * w``.
    """
    beta1, beta2 = betas
    _lamb()(
        0, 0, len(weights), weights, gradients, first_moment, second_moment,
        beta1, 1 - beta1, beta2, 1 - beta2, eps, root, scale, decay,
    )  # fmt: skip


@lru_cache(maxsize=1)
def _adamw():
    @kernel(
        int64, int64, int64, _VALUES, _VALUES, _VALUES, _VALUES,
        float32, float32, float32, float32, float32, float32, float32, float32,
    )  # fmt: skip
    def adamw_update(
        worker, start, stop, weights, gradients, m, v, beta1, rest1, beta2, rest2, eps, root, step, shrink
    ):
        for i in range(start, stop):
            g, w = gradients[i], weights[i]
            m[i] = beta1 * m[i] + rest1 * g
            v[i] = beta2 * v[i] + rest2 * (g * g)
            weights[i] = w - (shrink * w + step * (m[i] / (root * np.sqrt(v[i]) + eps)))

    return adamw_update


@lru_cache(maxsize=1)
def _lamb():
    @kernel(
        int64, int64, int64, _VALUES, _VALUES, _VALUES, _VALUES,
        float32, float32, float32, float32, float32, float32, float32, float32,
    )  # fmt: skip
    def lamb_update(
        worker, start, stop, weights, gradients, m, v, beta1, rest1, beta2, rest2, eps, root, scale, decay
    ):
        for i in range(start, stop):
            g = gradients[i]
            m[i] = beta1 * m[i] + rest1 * g
            v[i] = beta2 * v[i] + rest2 * (g * g)
            gradients[i] = (scale * m[i]) / (root * np.sqrt(v[i]) + eps) + decay * weights[i]

    return lamb_update
