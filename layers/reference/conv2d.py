"""Convolution in float64: plain NCHW images, OIHW weights, one kernel tap after the other."""

import numpy as np

from layers.conv2d import Conv2d
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference

Pair = tuple[int, int]


def forward(layer: Conv2d, problem: Problem) -> list[Array]:
    """Return y [N, K, OH, OW]."""
    (x,), weight = problem.inputs, problem.parameters["weight"]
    stride, (k, _, r, s) = layer.stride, weight.shape
    bias = problem.parameters.get("bias", np.zeros(k))
    padded = _pad(x, _edges(layer))
    rows = (padded.shape[2] - (r - 1) * layer.dilation - 1) // stride + 1
    columns = (padded.shape[3] - (s - 1) * layer.dilation - 1) // stride + 1
    y = np.tile(bias[None, :, None, None], (len(x), 1, rows, columns))
    for u in range(r):
        for v in range(s):
            seen = _tap(layer, padded, u, v, rows, columns)
            y += np.einsum("ncij,kc->nkij", seen, weight[:, :, u, v])
    return [y]


def backward_data(layer: Conv2d, problem: Problem) -> list[Array]:
    """Return dx [N, C, H, W]."""
    (x,), (dy,), weight = problem.inputs, problem.dys, problem.parameters["weight"]
    _, _, r, s = weight.shape
    _, _, rows, columns = dy.shape
    (top, _), (left, _) = _edges(layer)
    dpadded = np.zeros_like(_pad(x, _edges(layer)))
    for u in range(r):
        for v in range(s):
            _tap(layer, dpadded, u, v, rows, columns)[...] += np.einsum(
                "nkij,kc->ncij", dy, weight[:, :, u, v]
            )
    return [dpadded[:, :, top : top + x.shape[2], left : left + x.shape[3]]]


def backward_weights(layer: Conv2d, problem: Problem) -> dict[str, Array]:
    """Return the gradients of weight [K, C, R, S] and, if there is one, bias [K]."""
    (x,), (dy,), weight = problem.inputs, problem.dys, problem.parameters["weight"]
    _, _, r, s = weight.shape
    _, _, rows, columns = dy.shape
    padded = _pad(x, _edges(layer))
    gradient = np.empty_like(weight)
    for u in range(r):
        for v in range(s):
            seen = _tap(layer, padded, u, v, rows, columns)
            gradient[:, :, u, v] = np.einsum("nkij,ncij->kc", dy, seen)
    return {"weight": gradient} | ({"bias": dy.sum(axis=(0, 2, 3))} if layer.bias else {})


def _edges(layer: Conv2d) -> tuple[Pair, Pair]:
    """Return the rows of padding above and below, and the columns on the left and right."""
    top, left, bottom, right = layer.pads
    return (top, bottom), (left, right)


def _pad(x: Array, edges: tuple[Pair, Pair]) -> Array:
    return np.pad(x, ((0, 0), (0, 0), *edges))


def _tap(layer: Conv2d, padded: Array, u: int, v: int, rows: int, columns: int) -> Array:
    """View the input pixel that tap (u, v) meets, for every output pixel."""
    seen = padded[:, :, u * layer.dilation :: layer.stride, v * layer.dilation :: layer.stride]
    return seen[:, :, :rows, :columns]


REFERENCE = Reference(forward, backward_data, backward_weights, is_product=True)
