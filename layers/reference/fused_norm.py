"""Batch normalisation and the layers behind it in float64: the references of all of them, one by one."""

from dataclasses import replace

import numpy as np

from layers.activations import ReLU6
from layers.fused_norm import FusedBatchNorm
from layers.reference import activations, batch_norm, relu
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference
from layers.relu import ReLU


def forward(layer: FusedBatchNorm, problem: Problem) -> list[Array]:
    """Return y."""
    behind = _behind_sum(layer, problem)
    if layer.activation == "relu":
        return relu.forward(ReLU(), behind)
    if layer.activation == "relu6":
        return activations.forward(ReLU6(), behind)
    return list(behind.inputs)


def backward_data(layer: FusedBatchNorm, problem: Problem) -> list[Array]:
    """Return the gradients of x[0], and of x[1] where there is one."""
    own = _at_norm(layer, problem)
    return [*batch_norm.backward_data(layer, own), *(own.dys if layer.adds else ())]


def backward_weights(layer: FusedBatchNorm, problem: Problem) -> dict[str, Array]:
    """Return the gradients of weight and bias [C]."""
    return batch_norm.backward_weights(layer, _at_norm(layer, problem))


def leaf_values(layer: FusedBatchNorm, problem: Problem) -> dict[str, Array]:
    """Return mean and unbiased variance of each channel."""
    return batch_norm.leaf_values(layer, _alone(problem))


def _alone(problem: Problem) -> Problem:
    """Return the problem of the normalisation, but for its dys."""
    return replace(problem, inputs=problem.inputs[:1])


def _behind_sum(layer: FusedBatchNorm, problem: Problem) -> Problem:
    """Return the problem of the activation."""
    (value,) = batch_norm.forward(layer, _alone(problem))
    return replace(problem, inputs=(np.sum([value, *problem.inputs[1:]], axis=0),))


def _at_norm(layer: FusedBatchNorm, problem: Problem) -> Problem:
    """Return the problem of the normalisation: the gradient of its own result."""
    behind = _behind_sum(layer, problem)
    dys = list(problem.dys)
    if layer.activation == "relu":
        dys = relu.backward_data(ReLU(), behind)
    if layer.activation == "relu6":
        dys = activations.backward_data(ReLU6(), behind)
    return replace(_alone(problem), dys=tuple(dys))


REFERENCE = Reference(forward, backward_data, backward_weights, leaf_values)
