"""A convolution and the layers behind it in float64: the references of all of them, one after the other."""

from dataclasses import replace

from layers.fused_conv2d import Conv2dReLU, Conv2dReLUPool
from layers.max_pool import MaxPool
from layers.reference import conv2d, max_pool, relu
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference
from layers.relu import ReLU

Fused = Conv2dReLU | Conv2dReLUPool

_RELU, _POOL = ReLU(), MaxPool(2, 2)


def forward(layer: Fused, problem: Problem) -> list[Array]:
    """Return y."""
    rectified = relu.forward(_RELU, _behind_conv(layer, problem))
    if isinstance(layer, Conv2dReLU):
        return rectified
    return max_pool.forward(_POOL, replace(problem, inputs=tuple(rectified)))


def backward_data(layer: Fused, problem: Problem) -> list[Array]:
    """Return dx."""
    return conv2d.backward_data(layer.conv, _at_conv(layer, problem))


def backward_weights(layer: Fused, problem: Problem) -> dict[str, Array]:
    """Return the gradients of weight and bias."""
    return conv2d.backward_weights(layer.conv, _at_conv(layer, problem))


def _behind_conv(layer: Fused, problem: Problem) -> Problem:
    """Return the problem of the ReLU, but for its dys."""
    return replace(problem, inputs=tuple(conv2d.forward(layer.conv, problem)))


def _at_conv(layer: Fused, problem: Problem) -> Problem:
    """Return the problem of the convolution: the gradient of its own result."""
    behind = _behind_conv(layer, problem)
    if isinstance(layer, Conv2dReLUPool):
        rectified = relu.forward(_RELU, behind)
        dys = max_pool.backward_data(_POOL, replace(behind, inputs=tuple(rectified)))
        behind = replace(behind, dys=tuple(dys))
    return replace(problem, dys=tuple(relu.backward_data(_RELU, behind)))


REFERENCE = Reference(forward, backward_data, backward_weights)
