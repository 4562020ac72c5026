"""Average pooling in float64, one window after the other."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Pair = tuple[int, int]


def forward(x: Array, window: Pair, stride: int) -> Array:
    """Return y [N, C, OH, OW]."""
    rows, columns = (x.shape[2] - window[0]) // stride + 1, (x.shape[3] - window[1]) // stride + 1
    y = np.empty((*x.shape[:2], rows, columns))
    for i in range(rows):
        for j in range(columns):
            y[:, :, i, j] = _window(x, i, j, window, stride).mean(axis=(2, 3))
    return y


def backward_data(x: Array, dy: Array, window: Pair, stride: int) -> Array:
    """Return dx [N, C, H, W]."""
    dx = np.zeros_like(x)
    for i in range(dy.shape[2]):
        for j in range(dy.shape[3]):
            _window(dx, i, j, window, stride)[...] += dy[:, :, i, j, None, None] / (window[0] * window[1])
    return dx


def _window(x: Array, i: int, j: int, window: Pair, stride: int) -> Array:
    top, left = i * stride, j * stride
    return x[:, :, top : top + window[0], left : left + window[1]]
