"""ReLU and Sigmoid where values are special."""

import numpy as np
import pytest
from numpy.typing import NDArray

from layers.kernels.exponential import exp_nonpositive
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


@pytest.mark.parametrize("low", [-87.2, -1.0, -1e-3])
def test_exp_is_accurate(low: float) -> None:
    x = np.linspace(low, 0, 2001, dtype=np.float32)
    computed = np.array([exp_nonpositive(value) for value in x])
    np.testing.assert_allclose(computed, np.exp(x.astype(np.float64)), rtol=2e-7)
    assert computed[-1] == 1
