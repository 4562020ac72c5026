"""Average pooling to a size in float64, one window after the other."""

import numpy as np

from layers.adaptive_avg_pool import AdaptiveAvgPool, windows
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference


def forward(layer: AdaptiveAvgPool, problem: Problem) -> list[Array]:
    """Return y [N, C, OH, OW]."""
    (x,) = problem.inputs
    _, rows, columns = layer.output_shape(x.shape[1:])
    y = np.empty((*x.shape[:2], rows, columns))
    for i, (top, bottom) in enumerate(windows(x.shape[2], rows)):
        for j, (left, right) in enumerate(windows(x.shape[3], columns)):
            y[:, :, i, j] = x[:, :, top:bottom, left:right].mean(axis=(2, 3))
    return [y]


def backward_data(_layer: AdaptiveAvgPool, problem: Problem) -> list[Array]:
    """Return dx [N, C, H, W]."""
    (x,), (dy,) = problem.inputs, problem.dys
    dx = np.zeros_like(x)
    for i, (top, bottom) in enumerate(windows(x.shape[2], dy.shape[2])):
        for j, (left, right) in enumerate(windows(x.shape[3], dy.shape[3])):
            share = dy[:, :, i, j, None, None] / ((bottom - top) * (right - left))
            dx[:, :, top:bottom, left:right] += share
    return [dx]


REFERENCE = Reference(forward, backward_data)
