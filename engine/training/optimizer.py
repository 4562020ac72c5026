"""Stochastic gradient descent; it sees flat strips only."""

from dataclasses import dataclass

from layers.kernels import sgd
from layers.layer import Array


@dataclass(frozen=True)
class SGD:
    """Momentum SGD in the form of Sutskever et al. 2013, with L2 weight decay on every parameter.

    ``g = gradient + weight_decay * w; v = momentum * v + g``, then ``w -= rate * v``, or with Nesterov's
    momentum ``w -= rate * (g + momentum * v)``.
    """

    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0

    def update(self, weights: Array, gradients: Array, velocity: Array, rate: float) -> None:
        """Update a strip of weights and its velocity in place (float32, flat)."""
        sgd.update(weights, gradients, velocity, rate, self.momentum, self.weight_decay, self.nesterov)
