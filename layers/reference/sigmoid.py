"""Logistic sigmoid in float64."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def forward(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), written with tanh, which does not overflow."""
    return 0.5 + 0.5 * np.tanh(x / 2)


def backward_data(x: Array, dy: Array) -> Array:
    """Return dx."""
    y = forward(x)
    return dy * y * (1 - y)
