"""Fully connected layer in float64."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def forward(x: Array, weight: Array, bias: Array) -> Array:
    """Return y [N, K] for x [N, C] and weight [K, C]."""
    return x @ weight.T + bias


def backward_data(weight: Array, dy: Array) -> Array:
    """Return dx [N, C]."""
    return dy @ weight


def backward_weights(x: Array, dy: Array) -> tuple[Array, Array]:
    """Return the gradients of weight [K, C] and bias [K]."""
    return dy.T @ x, dy.sum(axis=0)
