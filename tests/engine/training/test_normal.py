"""Standard normal numbers by key."""

import hashlib

import numpy as np
import pytest

from engine.training.normal import NormalNumbers

COUNT = 1 << 19


def drawn(key, *cuts):
    numbers, stream = np.full(COUNT, np.nan, np.float32), NormalNumbers(key)
    for start, stop in zip((0, *cuts), (*cuts, COUNT), strict=True):
        stream.fill(numbers[start:stop])
    return numbers


def test_they_have_the_same_bits_on_every_machine():
    digest = hashlib.sha256(drawn([1, 2]).astype("<f4").data).hexdigest()
    assert digest == "cdea7d6b6b293e58ced265dc08e8c1df0ae732bd2ffa39508cd37e83f5da45ca"


@pytest.mark.parametrize("seed", range(4))
def test_they_are_those_of_numpy_but_for_last_bits_in_the_tail(seed):
    theirs = np.random.Generator(np.random.Philox(key=[seed, 9])).standard_normal(COUNT, dtype=np.float32)
    ours = drawn([seed, 9])
    tail = np.abs(theirs) > 3.654
    assert tail.sum() > 50
    np.testing.assert_array_equal(ours[~tail], theirs[~tail])
    np.testing.assert_array_max_ulp(ours[tail], theirs[tail], maxulp=2)  # of a logarithm in float32


def test_a_stream_goes_on_where_it_was():
    np.testing.assert_array_equal(drawn([4, 9], 1, 2, 1000, 1001, 70_000), drawn([4, 9]))


def test_arrays_of_any_shape_are_filled_in_the_order_of_memory():
    numbers = np.zeros((3, 5, 7), np.float32)
    NormalNumbers([4, 9]).fill(numbers)
    np.testing.assert_array_equal(numbers.ravel(), drawn([4, 9])[:105])


def test_another_key_draws_others():
    assert not np.array_equal(drawn([1, 2]), drawn([1, 3]))
    assert not np.array_equal(drawn([1, 2]), drawn([2, 2]))
