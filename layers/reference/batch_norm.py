"""Batch normalisation in training in float64; the samples of a problem are one group."""

import numpy as np

from layers.batch_norm import BatchNorm
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference


def forward(layer: BatchNorm, problem: Problem) -> list[Array]:
    """Return y [N, C, H, W] or [N, F]."""
    (x,) = problem.inputs
    return [_weight(layer, problem) * _normal(layer, x) + _by_channel(problem.parameters["bias"], x)]


def backward_data(layer: BatchNorm, problem: Problem) -> list[Array]:
    """Return dx, by the derivative of each mean."""
    (x,), (dy,) = problem.inputs, problem.dys
    normal = _normal(layer, x)
    own = dy - _mean(dy) - normal * _mean(dy * normal)
    return [own * _weight(layer, problem) / _deviation(layer, x)]


def backward_weights(layer: BatchNorm, problem: Problem) -> dict[str, Array]:
    """Return the gradients of weight and bias [C]."""
    (x,), (dy,) = problem.inputs, problem.dys
    axes = _axes(x)
    weight = {"weight": (dy * _normal(layer, x)).sum(axis=axes)} if layer.scaled else {}
    return {**weight, "bias": dy.sum(axis=axes)}


def leaf_values(_layer: BatchNorm, problem: Problem) -> dict[str, Array]:
    """Return mean and unbiased variance of each channel."""
    (x,) = problem.inputs
    few = x.size // x.shape[1] == 1
    return {"mean": x.mean(axis=_axes(x)), "variance": x.var(axis=_axes(x), ddof=0 if few else 1)}


def _axes(x: Array) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _mean(x: Array) -> Array:
    return np.asarray(x.mean(axis=_axes(x), keepdims=True))


def _deviation(layer: BatchNorm, x: Array) -> Array:
    return np.asarray(np.sqrt(_mean((x - _mean(x)) ** 2) + layer.epsilon))


def _normal(layer: BatchNorm, x: Array) -> Array:
    return (x - _mean(x)) / _deviation(layer, x)


def _weight(layer: BatchNorm, problem: Problem) -> Array:
    (x,) = problem.inputs
    return _by_channel(problem.parameters["weight"], x) if layer.scaled else np.ones(1)


def _by_channel(values: Array, x: Array) -> Array:
    return values.reshape(-1, *(1 for _ in x.shape[2:]))


REFERENCE = Reference(forward, backward_data, backward_weights, leaf_values)
