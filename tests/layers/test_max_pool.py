"""Maximum pooling where values are special."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from layers.max_pool import MaxPool
from tests.layers import harness


def _pool(
    layer: MaxPool, x: NDArray[np.float32], dy: float = 1
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    given = harness.problem(layer, (x.shape[1:],), len(x))
    dys = (np.full_like(given.dys[0], dy),)
    result = harness.run(layer, replace(given, inputs=(x.astype(np.float64),), dys=dys))
    return result.y[0].plain(), result.dx[0].plain()


def test_the_first_of_equal_maxima_wins() -> None:
    x = np.zeros((1, 1, 2, 4), np.float32)
    x[0, 0, :, 3] = 1
    _, dx = _pool(MaxPool(2, 2), x)
    np.testing.assert_array_equal(dx[0, 0], [[1, 0, 0, 1], [0, 0, 0, 0]])


def test_an_input_that_wins_several_windows_gets_their_sum() -> None:
    x = np.zeros((1, 1, 3, 3), np.float32)
    x[0, 0, 1, 1] = 1
    _, dx = _pool(MaxPool(2, 1), x, dy=0.5)
    np.testing.assert_array_equal(dx[0, 0], [[0, 0, 0], [0, 2, 0], [0, 0, 0]])


def test_padding_never_wins() -> None:
    x = np.full((2, 17, 3, 3), -5, np.float32)
    y, dx = _pool(MaxPool(3, 2, 1), x)
    assert (y == -5).all()
    assert dx.sum() == y.size
    y, dx = _pool(MaxPool(3, 2, 1), np.full_like(x, -np.inf))
    assert (y == -np.inf).all()
    assert dx.sum() == y.size


def test_a_nan_wins() -> None:
    for place in np.ndindex(2, 2):
        x = np.ones((1, 1, 2, 4), np.float32)
        x[(0, 0, *place)] = np.nan
        y, dx = _pool(MaxPool(2, 2), x)
        assert np.isnan(y[0, 0, 0, 0])
        assert y[0, 0, 0, 1] == 1
        assert dx[(0, 0, *place)] == 1


def test_a_window_may_have_256_elements() -> None:
    x = np.arange(256, dtype=np.float32).reshape(1, 1, 16, 16)
    y, dx = _pool(MaxPool(16, 1), x)
    assert y.item() == 255
    assert dx[0, 0, 15, 15] == dx.sum() == 1
