"""Average pooling in float64, one window after the other."""

import numpy as np

from layers.avg_pool import AvgPool
from layers.pooling import window_size
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference

Pair = tuple[int, int]


def forward(layer: AvgPool, problem: Problem) -> list[Array]:
    """Return y [N, C, OH, OW]."""
    (x,), window = problem.inputs, window_size(layer.window, problem.inputs[0].shape[1:])
    rows, columns = ((x.shape[2 + axis] - window[axis]) // layer.stride + 1 for axis in range(2))
    y = np.empty((*x.shape[:2], rows, columns))
    for i in range(rows):
        for j in range(columns):
            y[:, :, i, j] = _window(x, i, j, window, layer.stride).mean(axis=(2, 3))
    return [y]


def backward_data(layer: AvgPool, problem: Problem) -> list[Array]:
    """Return dx [N, C, H, W]."""
    (x,), (dy,) = problem.inputs, problem.dys
    window = window_size(layer.window, x.shape[1:])
    dx = np.zeros_like(x)
    for i in range(dy.shape[2]):
        for j in range(dy.shape[3]):
            share = dy[:, :, i, j, None, None] / (window[0] * window[1])
            _window(dx, i, j, window, layer.stride)[...] += share
    return [dx]


def _window(x: Array, i: int, j: int, window: Pair, stride: int) -> Array:
    top, left = i * stride, j * stride
    return x[:, :, top : top + window[0], left : left + window[1]]


REFERENCE = Reference(forward, backward_data)
