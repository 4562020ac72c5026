"""Activations in float64: the value, and the derivative as it is written in a textbook."""

from math import erf, pi, sqrt
from typing import Any

import numpy as np

from layers.activations import GELU, HardSigmoid, HardSwish, SiLU
from layers.layer import Layer
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference


def forward(layer: Layer, problem: Problem) -> list[Array]:
    """Return y."""
    (x,) = problem.inputs
    if isinstance(layer, GELU):
        return [x * _normal(x)]
    if isinstance(layer, SiLU):
        return [x * _sigmoid(x)]
    if isinstance(layer, HardSwish):
        return [x * np.clip(x + 3, 0, 6) / 6]
    return [np.clip(x + 3, 0, 6) / 6 if isinstance(layer, HardSigmoid) else np.clip(x, 0, 6)]


def backward_data(layer: Layer, problem: Problem) -> list[Array]:
    """Return dx."""
    (x,), (dy,) = problem.inputs, problem.dys
    if isinstance(layer, GELU):
        return [dy * (_normal(x) + x * np.exp(-x * x / 2) / sqrt(2 * pi))]
    if isinstance(layer, SiLU):
        return [dy * (_sigmoid(x) + x * _sigmoid(x) * (1 - _sigmoid(x)))]
    if isinstance(layer, HardSwish):
        return [dy * np.where(x <= -3, 0, np.where(x >= 3, 1, (2 * x + 3) / 6))]
    if isinstance(layer, HardSigmoid):
        return [dy * ((x > -3) & (x < 3)) / 6]
    return [dy * ((x > 0) & (x < 6))]


_erf: Any = np.vectorize(erf, otypes=[np.float64])


def _normal(x: Array) -> Array:
    values: Array = (1 + _erf(x / sqrt(2))) / 2
    return values


def _sigmoid(x: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(x / 2)


REFERENCE = Reference(forward, backward_data)
