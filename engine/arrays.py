"""Memory that kernels like."""

import numpy as np
from numpy.typing import NDArray

from layers.layer import Shape


def aligned_zeros(shape: Shape, dtype: type[np.generic] = np.float32) -> NDArray[np.float32]:
    """Return zeros that start on a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)
