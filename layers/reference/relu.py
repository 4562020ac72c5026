"""Rectified linear unit in float64."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def forward(x: Array) -> Array:
    """Return max(x, 0); a NaN stays a NaN."""
    return np.maximum(x, 0)


def backward_data(x: Array, dy: Array) -> Array:
    """Return dx; 0 where x is 0."""
    return np.where(x > 0, dy, 0)
