"""Concatenation along channels or features in float64."""

import numpy as np

from layers.concat import Concat
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference


def forward(_layer: Concat, problem: Problem) -> list[Array]:
    """Return y."""
    return [np.concatenate(problem.inputs, axis=1)]


def backward_data(_layer: Concat, problem: Problem) -> list[Array]:
    """Return a dx for each input."""
    (dy,) = problem.dys
    return np.split(dy, np.cumsum([x.shape[1] for x in problem.inputs])[:-1], axis=1)


REFERENCE = Reference(forward, backward_data)
