"""Functions made of sums, products and quotients."""

import numpy as np

from engine.data.dataset import digest
from engine.data.readers.rounded_functions import cosine, logarithm, sine


def test_they_are_those_of_numpy_but_for_the_last_bits():
    x = np.concatenate([np.geomspace(1e-300, 1e300, 20_001), np.linspace(0.5, 2, 10_001)])
    np.testing.assert_allclose(logarithm(x), np.log(x), rtol=4e-16, atol=2e-16)
    turns = np.linspace(-3, 3, 20_001)
    np.testing.assert_allclose(cosine(turns), np.cos(2 * np.pi * turns), rtol=0, atol=4e-15)
    np.testing.assert_allclose(sine(turns), np.sin(2 * np.pi * turns), rtol=0, atol=4e-15)


def test_where_they_are_whole_they_are_exact():
    assert logarithm(np.array([1.0])) == 0
    assert cosine(np.array([0.0, 0.25, 0.5, 1.0])).tolist()[0::2] == [1, -1]
    assert abs(cosine(np.array([0.25]))[0]) < 1e-16


def test_their_bits_are_the_same_everywhere():
    x = np.arange(1, 2001) / 37
    assert digest(logarithm(x), cosine(x), sine(x)) == "b389c75247ee1165"
