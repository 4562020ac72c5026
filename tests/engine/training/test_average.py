"""Averages of weights: the share of the way that each step goes."""

import numpy as np
import pytest

from engine.training.average import move, share_of


def test_shares_are_longer_in_the_first_steps_and_then_those_of_the_decay():
    assert [share_of(0.9, step) for step in (0, 10, 90, 1000)] == pytest.approx([1.0, 0.5, 0.1, 0.1])
    assert share_of(0.999, 90) == 0.1
    assert share_of(0.0, 500) == 1.0


def test_averages_of_any_shape_move_and_a_whole_share_copies_to_the_bit():
    rng = np.random.default_rng(0)
    start, values = rng.standard_normal((2, 3, 5)).astype(np.float32)
    averages = start.copy()
    move(averages, values, 0.25)
    np.testing.assert_allclose(averages, start + 0.25 * (values - start), rtol=1e-5, atol=1e-7)
    move(averages, values, 1.0)
    assert averages.tobytes() == values.tobytes()
    count = np.zeros((), np.float32)
    move(count, np.float32(8.0) + count, 0.5)
    assert count == 4.0
