"""Sum of several values in float64; its adjoint is a fork."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def forward(inputs: Sequence[Array]) -> Array:
    """Return y."""
    total = inputs[0].copy()
    for x in inputs[1:]:
        total += x
    return total


def backward_data(inputs: Sequence[Array], dy: Array) -> list[Array]:
    """Return a dx for each input."""
    return [dy.copy() for _ in inputs]
