"""Dropout in training in float64, and its mask by integer arithmetic of any size."""

import numpy as np
from numpy.typing import NDArray

from layers.dropout import Dropout
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference

_WORD32, _WORD64 = 2**32 - 1, 2**64 - 1


def forward(layer: Dropout, problem: Problem) -> list[Array]:
    """Return y: elements kept are scaled up, the others are 0."""
    (x,) = problem.inputs
    return [x * _masks(layer, problem) / (1 - layer.probability)]


def backward_data(layer: Dropout, problem: Problem) -> list[Array]:
    """Return dx."""
    (dy,) = problem.dys
    return [dy * _masks(layer, problem) / (1 - layer.probability)]


def _masks(layer: Dropout, problem: Problem) -> NDArray[np.bool_]:
    (x,), probability = problem.inputs, layer.probability
    kept = [
        mask(x[0].size, probability, problem.seed, problem.step, int(sample), problem.key)
        for sample in problem.samples
    ]
    return np.stack(kept).reshape(x.shape)


def mask(size: int, probability: float, seed: int, step: int, sample: int, key: int) -> NDArray[np.bool_]:
    """Return which of the `size` elements of one sample are kept, in the order (c, h, w)."""
    state = 0
    for word in (seed, step, sample, key):
        state = ((state ^ (word & _WORD64)) + 0x9E3779B97F4A7C15) & _WORD64
        state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & _WORD64
        state = ((state ^ state >> 27) * 0x94D049BB133111EB) & _WORD64
        state ^= state >> 31
    low, high = state & _WORD32, state >> 32
    drawn = [_scramble(_scramble(element ^ low) ^ high) for element in range(size)]
    return np.array(drawn) >= round(probability * 2**32)


def _scramble(word: int) -> int:
    word = ((word ^ word >> 16) * 0x7FEB352D) & _WORD32
    word = ((word ^ word >> 15) * 0x846CA68B) & _WORD32
    return word ^ word >> 16


REFERENCE = Reference(forward, backward_data)
