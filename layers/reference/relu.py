"""Rectified linear unit in float64."""

import numpy as np

from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference
from layers.relu import ReLU


def forward(_layer: ReLU, problem: Problem) -> list[Array]:
    """Return max(x, 0); a NaN stays a NaN."""
    (x,) = problem.inputs
    return [np.maximum(x, 0)]


def backward_data(_layer: ReLU, problem: Problem) -> list[Array]:
    """Return dx; 0 where x is 0."""
    (x,), (dy,) = problem.inputs, problem.dys
    return [np.where(x > 0, dy, 0)]


REFERENCE = Reference(forward, backward_data)
