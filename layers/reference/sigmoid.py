"""Logistic sigmoid in float64."""

import numpy as np

from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference
from layers.sigmoid import Sigmoid


def forward(_layer: Sigmoid, problem: Problem) -> list[Array]:
    """Return 1 / (1 + exp(-x)), written with tanh, which does not overflow."""
    (x,) = problem.inputs
    return [0.5 + 0.5 * np.tanh(x / 2)]


def backward_data(layer: Sigmoid, problem: Problem) -> list[Array]:
    """Return dx."""
    (y,), (dy,) = forward(layer, problem), problem.dys
    return [dy * y * (1 - y)]


REFERENCE = Reference(forward, backward_data)
