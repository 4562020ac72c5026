"""Layer normalisation in float64."""

import numpy as np

from layers.layer_norm import LayerNorm
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference


def forward(layer: LayerNorm, problem: Problem) -> list[Array]:
    """Return y [N, F]."""
    normal, _ = _normal(layer, problem)
    return [normal * problem.parameters["weight"] + problem.parameters["bias"]]


def backward_data(layer: LayerNorm, problem: Problem) -> list[Array]:
    """Return dx, by the derivative of each mean."""
    (dy,) = problem.dys
    normal, deviation = _normal(layer, problem)
    own = dy * problem.parameters["weight"]
    off = own - own.mean(axis=1, keepdims=True)
    return [(off - normal * (own * normal).mean(axis=1, keepdims=True)) / deviation]


def backward_weights(layer: LayerNorm, problem: Problem) -> dict[str, Array]:
    """Return the gradients of weight and bias [F]."""
    (dy,) = problem.dys
    return {"weight": (dy * _normal(layer, problem)[0]).sum(axis=0), "bias": dy.sum(axis=0)}


def _normal(layer: LayerNorm, problem: Problem) -> tuple[Array, Array]:
    (x,) = problem.inputs
    off = x - x.mean(axis=1, keepdims=True)
    deviation = np.sqrt((off**2).mean(axis=1, keepdims=True) + layer.epsilon)
    return off / deviation, deviation


REFERENCE = Reference(forward, backward_data, backward_weights)
