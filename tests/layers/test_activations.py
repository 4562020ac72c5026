"""Activations where values are special."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from layers.activations import GELU, HardSigmoid, HardSwish, ReLU6, SiLU
from layers.kernels.exponential import exp_nonpositive
from layers.kernels.jit import lazy
from layers.layer import Layer
from layers.reference import Problem
from layers.relu import ReLU
from layers.sigmoid import Sigmoid
from tests.layers import harness


def _apply(layer: Layer, values: list[float]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return y and dx for dy = 1."""
    x = np.array([values])
    result = harness.run(layer, Problem((x,), {}, (np.ones_like(x),), np.zeros(1, np.int64)))
    return result.y[0].plain()[0], result.dx[0].plain()[0]


def test_relu_keeps_nan_and_infinity() -> None:
    y, dx = _apply(ReLU(), [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-45])
    np.testing.assert_array_equal(y, np.array([np.nan, np.inf, 0, 0, 0, 1e-45], np.float32))
    np.testing.assert_array_equal(dx, [1, 1, 0, 0, 0, 1])


def test_sigmoid_is_stable_at_both_ends() -> None:
    y, dx = _apply(Sigmoid(), [np.inf, 1e4, 100, 0, -50, -100, -1e4, -np.inf])
    np.testing.assert_allclose(y, [1, 1, 1, 0.5, 1.9287498e-22, 0, 0, 0], rtol=3e-7, atol=1e-38)
    np.testing.assert_allclose(dx, [0, 0, 0, 0.25, 1.9287498e-22, 0, 0, 0], rtol=3e-7, atol=1e-38)


def test_sigmoid_keeps_nan() -> None:
    y, dx = _apply(Sigmoid(), [np.nan, 0.0])
    assert np.isnan(y[0])
    assert np.isnan(dx[0])
    assert y[1] == 0.5


@lazy
def _exp(x):
    return exp_nonpositive(x)


@pytest.mark.parametrize("low", [-87.2, -1.0, -1e-3])
def test_exp_is_accurate(low: float) -> None:
    x = np.linspace(low, 0, 2001, dtype=np.float32)
    computed = np.array([_exp(value) for value in x])
    np.testing.assert_allclose(computed, np.exp(x.astype(np.float64)), rtol=2e-7)
    assert computed[-1] == 1


def _normal(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


def test_gelu_is_accurate_everywhere_and_its_small_values_relatively() -> None:
    x = np.linspace(-13, 13, 5001, dtype=np.float32)
    y, dx = _apply(GELU(), x.tolist())
    right = np.array([value * _normal(value) for value in x.tolist()])
    slope = np.array([_normal(v) + v * math.exp(-v * v / 2) / math.sqrt(2 * math.pi) for v in x.tolist()])
    scale = np.maximum(1, np.abs(x))
    assert (np.abs(y - right) <= 4e-7 * scale).all()
    assert (np.abs(dx - slope) <= 4e-7 * scale).all()
    # The exponent's rounding, x*x/2 * 6e-8, and that of a dozen operations.
    assert (np.abs(y - right) <= (1e-6 + 6e-8 * x * x) * np.abs(right)).all()


@pytest.mark.parametrize("layer", [GELU(), SiLU(), HardSwish()], ids=str)
def test_a_gated_activation_passes_large_values_and_stops_large_negative_ones(layer: Layer) -> None:
    y, dx = _apply(layer, [3e38, 1e30, 200.0, -200.0, -1e30, -3e38, 0.0])
    np.testing.assert_array_equal(y, np.array([3e38, 1e30, 200, 0, 0, 0, 0], np.float32))
    np.testing.assert_array_equal(dx, [1, 1, 1, 0, 0, 0, 0.5])


@pytest.mark.parametrize("layer", [GELU(), SiLU(), HardSwish(), HardSigmoid(), ReLU6()], ids=str)
def test_an_activation_keeps_nan(layer: Layer) -> None:
    y, dx = _apply(layer, [np.nan, 1.0])
    assert np.isnan(y[0])
    assert np.isnan(dx[0]) or layer.reads_y  # y tells no side of the ends: dy goes through
    assert not np.isnan(y[1])


def test_hard_activations_end_where_they_say() -> None:
    y, dx = _apply(ReLU6(), [-1.0, -0.0, 0.0, 5.999999, 6.0, np.inf, -np.inf])
    np.testing.assert_array_equal(y, np.array([0, 0, 0, 5.999999, 6, 6, 0], np.float32))
    np.testing.assert_array_equal(dx, [0, 0, 0, 1, 0, 0, 0])
    assert not np.signbit(y).any()
    y, dx = _apply(HardSigmoid(), [-4.0, -3.0, -2.25, 0.0, 3.0, np.inf, -np.inf])
    np.testing.assert_array_equal(y, [0, 0, 0.125, 0.5, 1, 1, 0])
    np.testing.assert_array_equal(dx, np.array([0, 0, 1, 1, 0, 0, 0], np.float32) / np.float32(6))
    y, dx = _apply(HardSwish(), [-4.0, -3.0, -1.5, 1.0, 3.0, 4.0])
    np.testing.assert_allclose(y, [0, 0, -0.375, 2 / 3, 3, 4], rtol=1e-6)
    np.testing.assert_allclose(dx, [0, 0, 0, 5 / 6, 1, 1], rtol=1e-6)
