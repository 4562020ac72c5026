"""Product of an image with a vector in float64."""

from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference
from layers.scale import Scale


def forward(_layer: Scale, problem: Problem) -> list[Array]:
    """Return y [N, C, H, W]."""
    x, factors = problem.inputs
    return [x * factors.reshape(*x.shape[:2], 1, 1)]


def backward_data(_layer: Scale, problem: Problem) -> list[Array]:
    """Return the gradients of x and of the factors."""
    (x, factors), (dy,) = problem.inputs, problem.dys
    return [dy * factors.reshape(*x.shape[:2], 1, 1), (dy * x).sum(axis=(2, 3)).reshape(factors.shape)]


REFERENCE = Reference(forward, backward_data)
