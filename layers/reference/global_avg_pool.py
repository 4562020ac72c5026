"""The mean of an image in float64."""

import numpy as np

from layers.global_avg_pool import GlobalAvgPool
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference


def forward(_layer: GlobalAvgPool, problem: Problem) -> list[Array]:
    """Return y [N, C]."""
    (x,) = problem.inputs
    return [x.mean(axis=(2, 3))]


def backward_data(_layer: GlobalAvgPool, problem: Problem) -> list[Array]:
    """Return dx [N, C, H, W]."""
    (x,), (dy,) = problem.inputs, problem.dys
    return [np.broadcast_to(dy[:, :, None, None] / x[0, 0].size, x.shape).copy()]


REFERENCE = Reference(forward, backward_data)
