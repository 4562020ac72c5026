"""The update of stochastic gradient descent on a strip of flat parameters."""

from functools import lru_cache

from numba import boolean, float32, int64

from layers.kernels.jit import kernel


def update(
    weights, gradients, velocity, rate: float, momentum: float, weight_decay: float, nesterov: bool
) -> None:
    """Overwrite velocity and weights, element by element, on the calling thread.

    ``g = gradient + weight_decay * w; v = momentum * v + g``, then ``w -= rate * v``, or with Nesterov's
    momentum ``w -= rate * (g + momentum * v)``.
    """
    _update()(0, 0, len(weights), weights, gradients, velocity, rate, momentum, weight_decay, nesterov)


@lru_cache
def _update():
    @kernel(
        int64, int64, int64, float32[::1], float32[::1], float32[::1], float32, float32, float32, boolean
    )  # fmt: skip
    def sgd_update(worker, first, last, weights, gradients, velocity, rate, momentum, weight_decay, nesterov):
        if nesterov:
            for i in range(first, last):
                gradient = gradients[i] + weight_decay * weights[i]
                velocity[i] = momentum * velocity[i] + gradient
                weights[i] -= rate * (gradient + momentum * velocity[i])
        else:
            for i in range(first, last):
                velocity[i] = momentum * velocity[i] + (gradients[i] + weight_decay * weights[i])
                weights[i] -= rate * velocity[i]

    return sgd_update
