"""Fully connected layer in float64."""

from layers.linear import Linear
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference


def forward(_layer: Linear, problem: Problem) -> list[Array]:
    """Return y [N, K] for x [N, C] and weight [K, C]."""
    (x,) = problem.inputs
    return [x @ problem.parameters["weight"].T + problem.parameters.get("bias", 0.0)]


def backward_data(_layer: Linear, problem: Problem) -> list[Array]:
    """Return dx [N, C]."""
    (dy,) = problem.dys
    return [dy @ problem.parameters["weight"]]


def backward_weights(layer: Linear, problem: Problem) -> dict[str, Array]:
    """Return the gradients of weight [K, C] and, if there is one, bias [K]."""
    (x,), (dy,) = problem.inputs, problem.dys
    return {"weight": dy.T @ x} | ({"bias": dy.sum(axis=0)} if layer.bias else {})


REFERENCE = Reference(forward, backward_data, backward_weights, is_product=True)
