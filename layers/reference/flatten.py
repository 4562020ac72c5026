"""Flatten in float64."""

from layers.flatten import Flatten
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference


def forward(_layer: Flatten, problem: Problem) -> list[Array]:
    """Return y [N, C*H*W]."""
    (x,) = problem.inputs
    return [x.reshape(len(x), -1)]


def backward_data(_layer: Flatten, problem: Problem) -> list[Array]:
    """Return dx [N, C, H, W]."""
    (x,), (dy,) = problem.inputs, problem.dys
    return [dy.reshape(x.shape)]


REFERENCE = Reference(forward, backward_data)
