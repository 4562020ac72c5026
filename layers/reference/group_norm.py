"""Group normalisation in float64."""

import numpy as np

from layers.group_norm import GroupNorm
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference


def forward(layer: GroupNorm, problem: Problem) -> list[Array]:
    """Return y [N, C, H, W] or [N, F]."""
    (x,) = problem.inputs
    normal, _ = _normal(layer, x)
    return [normal * _by_channel(problem, "weight") + _by_channel(problem, "bias")]


def backward_data(layer: GroupNorm, problem: Problem) -> list[Array]:
    """Return dx, by the derivative of each mean."""
    (x,), (dy,) = problem.inputs, problem.dys
    normal, deviation = _normal(layer, x)
    own, of_group = (_grouped(layer, each) for each in (dy * _by_channel(problem, "weight"), normal))
    own = own - own.mean(axis=2, keepdims=True) - of_group * (own * of_group).mean(axis=2, keepdims=True)
    return [own.reshape(x.shape) / deviation]


def backward_weights(layer: GroupNorm, problem: Problem) -> dict[str, Array]:
    """Return the gradients of weight and bias [C]."""
    (x,), (dy,) = problem.inputs, problem.dys
    axes = (0, *range(2, x.ndim))
    return {"weight": (dy * _normal(layer, x)[0]).sum(axis=axes), "bias": dy.sum(axis=axes)}


def _grouped(layer: GroupNorm, x: Array) -> Array:
    return x.reshape(len(x), layer.groups, -1)


def _normal(layer: GroupNorm, x: Array) -> tuple[Array, Array]:
    """Return what has mean 0 and variance 1 in each group, and the deviations that it was divided by."""
    grouped = _grouped(layer, x)
    off = grouped - grouped.mean(axis=2, keepdims=True)
    deviation = np.sqrt((off**2).mean(axis=2, keepdims=True) + layer.epsilon)
    return (off / deviation).reshape(x.shape), np.broadcast_to(deviation, off.shape).reshape(x.shape)


def _by_channel(problem: Problem, name: str) -> Array:
    return problem.parameters[name].reshape(-1, *(1 for _ in problem.inputs[0].shape[2:]))


REFERENCE = Reference(forward, backward_data, backward_weights)
