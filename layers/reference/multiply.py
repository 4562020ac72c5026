"""Product with a constant, in float64."""

import numpy as np

from layers.multiply import Multiply
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference


def forward(layer: Multiply, problem: Problem) -> list[Array]:
    """Return y."""
    return [float(np.float32(layer.factor)) * problem.inputs[0]]


def backward_data(layer: Multiply, problem: Problem) -> list[Array]:
    """Return the gradient of x."""
    return [float(np.float32(layer.factor)) * problem.dys[0]]


REFERENCE = Reference(forward, backward_data)
