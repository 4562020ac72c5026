"""Winograd convolution: its transforms against exact matrices, its error, and when it is chosen."""

from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pytest
from numba import int64

from layers.conv2d import Conv2d
from layers.kernels.conv_algorithm import backward_weights_is_winograd, forward_is_winograd
from layers.kernels.jit import kernel
from layers.kernels.simd import LANES
from layers.kernels.winograd_transforms import (
    INPUT,
    OUTPUT,
    OUTPUT_GRADIENT,
    POINTS,
    WEIGHT,
    WEIGHT_GRADIENT,
    transform,
)
from layers.reference import conv2d as reference
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD
from tests.layers.harness import problem, run

FINITE = [Fraction(point) for point in (0, 1, -1, 2, -2)]
SCALES = [Fraction(1, 4), Fraction(-1, 6), Fraction(-1, 6), Fraction(1, 24), Fraction(1, 24)]


def matrices(outputs: int) -> dict[int, np.ndarray]:
    """Return the five matrices, written down from the points (Lavin and Gray, arXiv:1509.09308)."""
    taps = POINTS + 1 - outputs
    g = [[scale * point**power for power in range(taps)] for point, scale in zip(FINITE, SCALES, strict=True)]
    g.append([Fraction(power == taps - 1) for power in range(taps)])
    a = [[point**power for power in range(outputs)] for point in FINITE]
    a.append([Fraction(power == outputs - 1) for power in range(outputs)])
    b_t = [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
    g, a, b_t = (np.array(matrix, np.float64) for matrix in (g, a, b_t))
    return {INPUT: b_t, OUTPUT_GRADIENT: a, WEIGHT: g, OUTPUT: a.T, WEIGHT_GRADIENT: g.T}


@lru_cache
def _transform(kind, outputs):
    @kernel(int64, int64, int64, int64, int64, int64)
    def call(source, source_row, source_column, target, target_row, target_column):
        transform(kind, outputs, source, source_row, source_column, target, target_row, target_column)

    return call


@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize("kind", [INPUT, OUTPUT_GRADIENT, WEIGHT, OUTPUT, WEIGHT_GRADIENT])
def test_transforms_are_the_matrices_of_the_literature(kind, outputs):
    matrix = matrices(outputs)[kind]
    after, before = matrix.shape
    source = np.random.default_rng(kind).standard_normal((before, before, LANES)).astype(np.float32)
    target = np.zeros((after, after, LANES), np.float32)
    row, column = before * LANES, LANES
    _transform(kind, outputs)(source.ctypes.data, row, column, target.ctypes.data, after * LANES, LANES)
    expected = np.einsum("ai,bj,ijl->abl", matrix, matrix, source.astype(np.float64))
    terms = np.einsum("ai,bj,ijl->abl", abs(matrix), abs(matrix), abs(source.astype(np.float64)))
    roundings = 12  # on the way of a term through both passes
    assert (abs(target - expected) <= roundings * 2.0**-24 * terms).all()


@pytest.mark.parametrize("outputs", [2, 4])
def test_the_matrices_compute_a_correlation(outputs):
    taps, exact = POINTS + 1 - outputs, matrices(outputs)
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal(POINTS), rng.standard_normal(taps)
    got = exact[OUTPUT] @ ((exact[WEIGHT] @ g) * (exact[INPUT] @ d))
    np.testing.assert_allclose(got, [d[i : i + taps] @ g for i in range(outputs)], rtol=0, atol=1e-12)


def relative(got, want):
    return np.linalg.norm(got - want) / np.linalg.norm(want)


@pytest.mark.parametrize(
    ("channels", "layer", "side", "limit"),
    [
        (512, Conv2d(512, 3, padding=1), 14, 6e-6),
        (64, Conv2d(128, 3, padding=1), 28, 6e-6),
        (96, Conv2d(128, 5), 14, 2e-5),
        (33, Conv2d(130, 3, padding=2), 11, 2e-5),
    ],
)
def test_the_error_against_float64_stays_within_its_bound(channels, layer, side, limit):
    shape = (channels, side, side)
    assert layer.is_winograd(FORWARD, 2, shape)
    assert layer.is_winograd(BACKWARD_DATA, 2, shape)
    assert layer.is_winograd(BACKWARD_WEIGHTS, 2, shape)
    given = problem(layer, (shape,), 2)
    result = run(layer, given)
    assert relative(result.y[0].plain(), *reference.forward(layer, given)) < limit
    assert relative(result.dx[0].plain(), *reference.backward_data(layer, given)) < limit
    want = reference.backward_weights(layer, given)["weight"]
    assert relative(result.gradients["weight"], want) < limit


def test_direct_can_be_asked_for():
    layer = Conv2d(64, 3, padding=1)
    shape = (64, 28, 28)
    assert layer.is_winograd(FORWARD, 2, shape)
    assert not replace(layer, algorithm="direct").is_winograd(FORWARD, 2, shape)
    with pytest.raises(ValueError, match="algorithm"):
        Conv2d(64, 3, algorithm="fastest")


def test_the_choice_follows_from_shape_and_leaf():
    assert forward_is_winograd(64, 128, (3, 3), 1, 112, 112)
    assert not forward_is_winograd(64, 128, (3, 3), 2, 56, 56)
    assert not forward_is_winograd(3, 64, (3, 3), 1, 224, 224)
    assert not forward_is_winograd(64, 128, (1, 1), 1, 56, 56)
    assert forward_is_winograd(96, 256, (5, 5), 1, 24, 24)
    assert backward_weights_is_winograd(512, 512, (3, 3), 1, 14, 14, 2)
    assert not backward_weights_is_winograd(512, 512, (3, 3), 1, 2, 2, 1)
