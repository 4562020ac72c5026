"""Sums of squares without rounding."""

import math
from fractions import Fraction

import numpy as np
import pytest

from layers.kernels import sum_of_squares as module
from layers.kernels.sum_of_squares import LIMBS, add_squares, rounded_sum


def summed(*parts):
    limbs = np.zeros(LIMBS, np.int64)
    for part in parts:
        add_squares(np.ascontiguousarray(part, np.float32), limbs)
    return limbs


def exact(values):
    return float(sum(Fraction(float(value)) ** 2 for value in values))


def draw(count, spread=12.0):
    rng = np.random.default_rng(count)
    return (rng.standard_normal(count) * np.exp(spread * rng.standard_normal(count))).astype(np.float32)


@pytest.mark.parametrize("count", [0, 1, 3, 17, 5000])
def test_a_sum_is_rounded_once(count):
    values = draw(count)
    assert rounded_sum(summed(values)) == exact(values)


def test_the_smallest_and_the_largest_numbers_count():
    tiny, huge = np.float32(1e-45), np.finfo(np.float32).max
    for values in ([tiny], [tiny] * 3, [1e-39, -1e-40], [huge] * 5, [huge, tiny], [0.0, -0.0]):
        assert rounded_sum(summed(values)) == exact(np.float32(values))


@pytest.mark.parametrize("piece", [4, 64, 1 << 17])
def test_order_and_cuts_change_no_bit(monkeypatch, piece):
    values = draw(1000)
    whole = summed(values)
    monkeypatch.setattr(module, "_PIECE", piece)
    shuffled = np.random.default_rng(1).permutation(values)
    assert summed(shuffled).tobytes() == whole.tobytes()
    assert summed(shuffled[:1], shuffled[1:700], shuffled[700:]).tobytes() == whole.tobytes()


def test_sums_of_several_ranks_are_added_limb_by_limb():
    values = draw(999)
    parts = np.stack([summed(values[first::3]) for first in range(3)])
    assert rounded_sum(parts.sum(axis=0)) == exact(values)


def test_many_equal_values_fit():
    values = np.full(3 * module._PIECE + 5, np.float32(2 - 2**-23))  # the most that a bin can hold
    assert rounded_sum(summed(values)) == float(Fraction(float(values[0])) ** 2 * len(values))


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_value_that_is_not_finite_makes_the_sum_nan(bad):
    limbs = summed([1.0, bad], [2.0])
    assert math.isnan(rounded_sum(limbs)) and math.isnan(rounded_sum(limbs + summed([1.0])))
