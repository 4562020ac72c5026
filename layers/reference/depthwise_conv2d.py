"""Depthwise convolution in float64: plain NCHW images, one kernel tap after the other."""

from collections.abc import Iterator

import numpy as np

from layers.depthwise_conv2d import DepthwiseConv2d
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference


def forward(layer: DepthwiseConv2d, problem: Problem) -> list[Array]:
    """Return y [N, C, OH, OW]."""
    (x,), weight = problem.inputs, problem.parameters["weight"]
    bias = problem.parameters.get("bias", np.zeros(x.shape[1]))
    y = np.tile(bias[None, :, None, None], (len(x), 1, *layer.output_shape(x.shape[1:])[1:]))
    for u, v, seen in _taps(layer, _pad(layer, x)):
        y += seen * weight[:, 0, u, v, None, None]
    return [y]


def backward_data(layer: DepthwiseConv2d, problem: Problem) -> list[Array]:
    """Return dx [N, C, H, W]."""
    (x,), (dy,), weight = problem.inputs, problem.dys, problem.parameters["weight"]
    dpadded = np.zeros_like(_pad(layer, x))
    for u, v, met in _taps(layer, dpadded):
        met[...] += dy * weight[:, 0, u, v, None, None]
    top, left = layer.pads[:2]
    return [dpadded[:, :, top : top + x.shape[2], left : left + x.shape[3]]]


def backward_weights(layer: DepthwiseConv2d, problem: Problem) -> dict[str, Array]:
    """Return the gradients of weight [C, 1, R, S] and, if there is one, bias [C]."""
    (x,), (dy,) = problem.inputs, problem.dys
    gradient = np.empty_like(problem.parameters["weight"])
    for u, v, seen in _taps(layer, _pad(layer, x)):
        gradient[:, 0, u, v] = (seen * dy).sum(axis=(0, 2, 3))
    return {"weight": gradient} | ({"bias": dy.sum(axis=(0, 2, 3))} if layer.bias else {})


def _pad(layer: DepthwiseConv2d, x: Array) -> Array:
    top, left, bottom, right = layer.pads
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))


def _taps(layer: DepthwiseConv2d, padded: Array) -> Iterator[tuple[int, int, Array]]:
    """Yield each tap, and the view of the input pixels that it meets, one for every output pixel."""
    (r, s), stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    rows = (padded.shape[2] - (r - 1) * dilation - 1) // stride + 1
    columns = (padded.shape[3] - (s - 1) * dilation - 1) // stride + 1
    for u in range(r):
        for v in range(s):
            seen = padded[:, :, u * dilation :: stride, v * dilation :: stride]
            yield u, v, seen[:, :, :rows, :columns]


REFERENCE = Reference(forward, backward_data, backward_weights)
