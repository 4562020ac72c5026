"""Convolution in float64: plain NCHW images, OIHW weights, one kernel tap after the other."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Pair = tuple[int, int]


def forward(x: Array, weight: Array, bias: Array, stride: int, padding: Pair) -> Array:
    """Return y [N, K, OH, OW]."""
    _, _, r, s = weight.shape
    padded = _pad(x, padding)
    rows, columns = (padded.shape[2] - r) // stride + 1, (padded.shape[3] - s) // stride + 1
    y = np.tile(bias[None, :, None, None], (len(x), 1, rows, columns)).astype(np.float64)
    for u in range(r):
        for v in range(s):
            y += np.einsum("ncij,kc->nkij", _tap(padded, u, v, rows, columns, stride), weight[:, :, u, v])
    return y


def backward_data(x: Array, weight: Array, dy: Array, stride: int, padding: Pair) -> Array:
    """Return dx [N, C, H, W]."""
    _, _, r, s = weight.shape
    _, _, rows, columns = dy.shape
    dpadded = np.zeros_like(_pad(x, padding))
    for u in range(r):
        for v in range(s):
            _tap(dpadded, u, v, rows, columns, stride)[...] += np.einsum(
                "nkij,kc->ncij", dy, weight[:, :, u, v]
            )
    return dpadded[:, :, padding[0] : padding[0] + x.shape[2], padding[1] : padding[1] + x.shape[3]]


def backward_weights(x: Array, weight: Array, dy: Array, stride: int, padding: Pair) -> tuple[Array, Array]:
    """Return the gradients of weight [K, C, R, S] and bias [K]."""
    _, _, r, s = weight.shape
    _, _, rows, columns = dy.shape
    padded = _pad(x, padding)
    gradient = np.empty_like(weight)
    for u in range(r):
        for v in range(s):
            gradient[:, :, u, v] = np.einsum("nkij,ncij->kc", dy, _tap(padded, u, v, rows, columns, stride))
    return gradient, dy.sum(axis=(0, 2, 3))


def _pad(x: Array, padding: Pair) -> Array:
    return np.pad(x, ((0, 0), (0, 0), (padding[0], padding[0]), (padding[1], padding[1])))


def _tap(padded: Array, u: int, v: int, rows: int, columns: int, stride: int) -> Array:
    """View the input pixel that tap (u, v) meets, for every output pixel."""
    return padded[:, :, u : u + rows * stride : stride, v : v + columns * stride : stride][
        :, :, :rows, :columns
    ]
