"""Maximum pooling in float64, one window after the other."""

import numpy as np

from layers.max_pool import MaxPool
from layers.pooling import window_size
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference

Pair = tuple[int, int]


def forward(layer: MaxPool, problem: Problem) -> list[Array]:
    """Return y [N, C, OH, OW]; a NaN in a window makes a NaN."""
    (x,), window = problem.inputs, window_size(layer.window, problem.inputs[0].shape[1:])
    padded, (_, rows, columns) = _pad(x, layer), layer.output_shape(x.shape[1:])
    y = np.empty((*x.shape[:2], rows, columns))
    for i in range(rows):
        for j in range(columns):
            y[:, :, i, j] = _window(padded, i, j, window, layer.stride).max(axis=(2, 3))
    return [y]


def backward_data(layer: MaxPool, problem: Problem) -> list[Array]:
    """Return dx [N, C, H, W]: each dy goes to the first maximum of its window."""
    (x,), (dy,), stride, padding = problem.inputs, problem.dys, layer.stride, layer.padding
    window = window_size(layer.window, x.shape[1:])
    padded, (_, rows, columns) = _pad(x, layer), layer.output_shape(x.shape[1:])
    dpadded = np.zeros_like(padded)
    for i in range(rows):
        for j in range(columns):
            values = _window(padded, i, j, window, stride)
            taps = values.reshape(*x.shape[:2], -1).argmax(axis=2)
            first = np.arange(window[0] * window[1]) == taps[:, :, None]
            share = first.reshape(values.shape) * dy[:, :, i, j, None, None]
            _window(dpadded, i, j, window, stride)[...] += share
    return [dpadded[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]]


def _pad(x: Array, layer: MaxPool) -> Array:
    """Return x with padding on all sides, and so much behind that no last window ends outside."""
    behind = layer.padding + layer.stride
    edges = (layer.padding, behind)
    return np.pad(x, ((0, 0), (0, 0), edges, edges), constant_values=-np.inf)


def _window(padded: Array, i: int, j: int, window: Pair, stride: int) -> Array:
    top, left = i * stride, j * stride
    return padded[:, :, top : top + window[0], left : left + window[1]]


REFERENCE = Reference(forward, backward_data)
