"""Padded lanes: what stands behind the last channel or feature of a value, and must be zero."""

from layers.kernels.simd import LANES
from layers.layer import Array, Shape


def clear_padding(y: Array, shape: Shape) -> None:
    """Write zeros into the padded lanes, where an elementwise kernel has left its value of 0."""
    if len(shape) == 1:
        y[:, shape[0] :] = 0
    elif shape[0] % LANES:
        y[:, -1, :, :, shape[0] % LANES :] = 0
