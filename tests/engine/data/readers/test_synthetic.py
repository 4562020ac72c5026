"""Synthetic samples: independent of who reads, normalised, and learnable."""

import numpy as np
import pytest

from engine.data.readers.synthetic import Synthetic
from tests.engine.data.files import read_all


@pytest.mark.parametrize("shape", [(3, 16, 16), (429,)])
def test_sample_does_not_depend_on_order_length_or_instance(shape: tuple[int, ...]) -> None:
    x, labels = read_all(Synthetic.make(shape, classes=7, length=50, seed=3))
    longer = Synthetic.make(shape, classes=7, length=500, seed=3)
    again = np.empty(shape, np.float32)
    for index in reversed(range(50)):
        assert longer.read(index, again) == labels[index]
        np.testing.assert_array_equal(again, x[index])


def test_samples_and_seeds_differ() -> None:
    x, _ = read_all(Synthetic.make((64,), classes=2, length=50, seed=0))
    other, _ = read_all(Synthetic.make((64,), classes=2, length=50, seed=1))
    assert len({row.tobytes() for row in np.concatenate([x, other])}) == 100


def test_mean_is_zero_and_variance_one() -> None:
    x, _ = read_all(Synthetic.make((3, 32, 32), classes=50, length=500, seed=0))
    # About 65,000 independent numbers in the pools: three sigma of their mean is 0.012.
    assert abs(x.mean()) < 0.015
    assert abs(x.std() - 1) < 0.015


def test_class_means_tell_unseen_samples_apart() -> None:
    x, labels = read_all(Synthetic.make((128,), classes=10, length=1000, seed=0))
    seen, label = x[:500], np.array(labels)
    means = np.stack([seen[label[:500] == number].mean(0) for number in range(10)])
    assert np.mean(np.argmax(x[500:] @ means.T, axis=1) == label[500:]) > 0.95


def test_every_class_has_a_pattern_of_its_own() -> None:
    data = Synthetic.make((4,), classes=70_000, length=10, seed=0)
    assert len(np.unique(data.pattern_starts)) == 70_000
