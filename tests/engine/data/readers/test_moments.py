"""Sums over frames in a fixed order."""

import numpy as np
import pytest

from engine.data.dataset import digest
from engine.data.readers.moments import Moments, fixed_sum


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 64, 101])
def test_rows_are_added_in_pairs(rows):
    values = np.random.default_rng(rows).standard_normal((rows, 3))
    np.testing.assert_allclose(fixed_sum(values), values.sum(axis=0), rtol=1e-13, atol=1e-13)
    tiny = 2.0**-53
    assert fixed_sum(np.array([1.0, tiny, tiny, tiny])) == 1.0 + 2 * tiny  # from the left it would stay 1


def test_moments_are_those_of_all_frames():
    parts = [np.random.default_rng(n).normal(3, 2, (n, 4)).astype(np.float32) for n in (5, 1, 9)]
    moments = Moments.none(4)
    for part in parts:
        moments.add(part)
    mean, scale = moments.mean_and_scale()
    whole = np.concatenate(parts).astype(np.float64)
    np.testing.assert_allclose(mean, whole.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(scale, 1 / whole.std(axis=0), rtol=1e-12)


def test_their_bits_are_the_same_everywhere():
    moments = Moments.none(3)
    moments.add((np.arange(300).reshape(100, 3) % 37 / 7).astype(np.float32))
    assert digest(*moments.mean_and_scale()) == "e7b7fe8c025bda4e"
