"""Samples drawn by the weight of their class."""

from itertools import islice

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.data.augment import Augment
from engine.data.counter import Stream, random_words
from engine.data.loader import Loader
from engine.data.mix import Mix
from engine.data.readers.arrays import ArrayDataset
from engine.data.sampler import Sampler
from engine.data.weighted_sampling import WeightedSampling, weighted_sampling
from tests import naive

LABELS = np.array([0] * 90 + [2] * 9 + [3])
DATA = ArrayDataset(np.arange(400.0).reshape(100, 1, 2, 2), LABELS, classes=5)


def drawn(asked: str | tuple[float, ...]) -> WeightedSampling:
    found = weighted_sampling(asked, DATA)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "asked",
    [
        "balanced",
        (1.0, 1.0, 1.0, 1.0, 1.0),
        (0.1, 5.0, 3.0, 1e-9, 0.0),
        (0, 0, 1, 0, 1),
        (0, 1, 1e-20, 1e20, 0),
    ],
)
def test_every_draw_is_that_of_the_naive_one(asked: str | tuple[float, ...]) -> None:
    weights = naive.balanced(LABELS, 5) if isinstance(asked, str) else asked
    for seed, epoch in ((1, 0), (1, 1), (7, 1)):
        words = random_words(Stream.DRAW, 200, seed=seed, counter=(0, epoch)).tolist()
        order = drawn(asked).order(seed, epoch)
        assert order.dtype == np.int64
        assert order.tolist() == naive.drawn_samples(LABELS, weights, words)


def test_balanced_draws_have_about_as_many_of_each_class() -> None:
    sampling = drawn("balanced")
    assert sampling.parts() == pytest.approx([1 / 3] * 3)
    labels = np.concatenate([LABELS[sampling.order(1, epoch)] for epoch in range(100)])
    shares = np.bincount(labels, minlength=5) / 10_000
    np.testing.assert_allclose(shares, [1 / 3, 0, 1 / 3, 1 / 3, 0], atol=0.02)  # 4 deviations of 0.0047


def test_weights_are_those_of_a_sample() -> None:
    assert drawn((1, 1, 10, 0, 1)).parts() == pytest.approx([0.5, 0.5])


def test_the_draws_of_an_epoch_never_change() -> None:
    assert drawn("balanced").order(3, 2)[:8].tolist() == [88, 94, 99, 99, 99, 99, 44, 98]


def test_a_shuffled_epoch_draws_nothing() -> None:
    assert weighted_sampling("shuffled", DATA) is None


def test_weights_that_do_not_suit_the_classes_are_refused() -> None:
    with pytest.raises(UserError, match=r"^sampling: got 2 weights; must be one for each of 5 classes$"):
        weighted_sampling((1, 2), DATA)
    with pytest.raises(UserError, match=r"^sampling: got \[0, 1, 0, 0, 1\]; must be above 0 for a class"):
        weighted_sampling((0, 1, 0, 0, 1), DATA)


@pytest.mark.parametrize("first_step", [0, 3, 4, 9])
def test_training_resumes_at_any_step(first_step: int) -> None:
    sampler = Sampler(100, 24, 5, drawn("balanced"))
    whole = list(islice(sampler.training(), 12))[first_step:]
    for ours, theirs in zip(sampler.training(first_step), whole, strict=False):
        assert ours.epoch == theirs.epoch
        np.testing.assert_array_equal(ours.samples, theirs.samples)
        np.testing.assert_array_equal(ours.keys, theirs.keys)


def test_keys_are_places_of_which_each_has_one_sample() -> None:
    sampling = drawn("balanced")
    shares = list(islice(Sampler(100, 25, 5, sampling).training(), 4))
    np.testing.assert_array_equal(np.concatenate([share.keys for share in shares]), np.arange(100))
    np.testing.assert_array_equal(np.concatenate([share.samples for share in shares]), sampling.order(5, 0))
    part = shares[2].rows(slice(3, 9), 1)
    np.testing.assert_array_equal(part.keys, np.arange(53, 59))
    np.testing.assert_array_equal(part.samples, shares[2].samples[3:9])
    plain = next(Sampler(100, 25, 5).training())
    np.testing.assert_array_equal(plain.keys, plain.samples)


def test_a_sample_that_is_drawn_twice_is_augmented_in_two_ways() -> None:
    only = drawn((0, 0, 0, 1, 0))
    with Loader(DATA, islice(Sampler(100, 100, 1, only).training(), 1), augment=Augment(flip=True)) as loader:
        batch = next(loader)
        assert set(batch.samples.tolist()) == {99}
        assert len(np.unique(batch.x, axis=0)) == 2


def test_samples_are_mixed_with_others_that_are_drawn() -> None:
    rare = drawn((0, 0, 1, 1, 0))
    shares = islice(Sampler(100, 100, 1, rare).training(), 1)
    with Loader(DATA, shares, mix=Mix(mixup=1.0), seed=1) as loader:
        batch = next(loader)
        assert batch.other_labels is not None
        assert set(batch.other_labels.tolist()) == {2, 3}
