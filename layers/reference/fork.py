"""One value for several readers in float64: the adjoint of a sum."""

from layers.fork import Fork
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference


def forward(layer: Fork, problem: Problem) -> list[Array]:
    """Return a y for each reader."""
    (x,) = problem.inputs
    return [x.copy() for _ in range(layer.outputs)]


def backward_data(_layer: Fork, problem: Problem) -> list[Array]:
    """Return dx."""
    total = problem.dys[0].copy()
    for dy in problem.dys[1:]:
        total += dy
    return [total]


REFERENCE = Reference(forward, backward_data)
