"""The sampler: who sits where, at most once an epoch in training, exactly once in evaluation."""

from itertools import islice

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.data.sampler import ABSENT, Sampler, epoch_order, evaluation


def test_epoch_takes_each_sample_at_most_once() -> None:
    sampler = Sampler(length=103, batch=10, seed=5)
    assert (sampler.steps_per_epoch, sampler.dropped) == (10, 3)
    shares = list(islice(sampler.training(), 20))
    for epoch in (0, 1):
        samples = np.concatenate([share.samples for share in shares if share.epoch == epoch])
        assert len(samples) == len(set(samples.tolist())) == 100
        assert samples.min() >= 0
        assert samples.max() < 103


def test_whole_epoch_takes_every_sample() -> None:
    samples = np.concatenate([share.samples for share in islice(Sampler(40, 8, 0).training(), 5)])
    np.testing.assert_array_equal(np.sort(samples), np.arange(40))


def test_order_is_keyed_by_seed_and_epoch() -> None:
    np.testing.assert_array_equal(epoch_order(1, 2, 50), epoch_order(1, 2, 50))
    orders = {epoch_order(seed, epoch, 50).tobytes() for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_batch_size_does_not_change_the_order() -> None:
    small = np.concatenate([share.samples for share in islice(Sampler(64, 4, 9).training(), 16)])
    large = np.concatenate([share.samples for share in islice(Sampler(64, 32, 9).training(), 2)])
    np.testing.assert_array_equal(small, large)


@pytest.mark.parametrize("first_step", [0, 3, 4, 9])
def test_training_resumes_at_any_step(first_step: int) -> None:
    sampler = Sampler(length=21, batch=5, seed=0)
    whole = list(islice(sampler.training(), 14))[first_step:]
    resumed = list(islice(sampler.training(first_step), len(whole)))
    assert [share.epoch for share in resumed] == [share.epoch for share in whole]
    for ours, theirs in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(ours.samples, theirs.samples)


def test_rows_of_the_ranks_make_up_the_minibatch() -> None:
    share = next(Sampler(30, 12, 1).training())
    parts = [share.rows(slice(start, start + 4)) for start in (0, 4, 8)]
    np.testing.assert_array_equal(np.concatenate([part.samples for part in parts]), share.samples)
    assert {part.epoch for part in parts} == {share.epoch}


@pytest.mark.parametrize(("length", "batch"), [(10, 4), (8, 4), (3, 4), (1, 1)])
def test_evaluation_takes_every_sample_once_in_order(length: int, batch: int) -> None:
    assert {share.epoch for share in evaluation(length, batch)} == {0}
    shares = [share.samples for share in evaluation(length, batch)]
    assert all(len(samples) == batch for samples in shares)
    joined = np.concatenate(shares)
    np.testing.assert_array_equal(joined[:length], np.arange(length))
    np.testing.assert_array_equal(joined[length:], ABSENT)
    assert len(joined) - length < batch


@pytest.mark.parametrize("batch", [0, 11])
def test_batch_must_fit_the_data(batch: int) -> None:
    with pytest.raises(UserError, match=f"got {batch} with 10 training samples; must be from 1 to 10"):
        Sampler(length=10, batch=batch, seed=0)


def test_each_epoch_is_cut_from_the_order_of_its_seed_and_number() -> None:
    shares = list(islice(Sampler(length=21, batch=5, seed=3).training(), 8))
    for step, share in enumerate(shares):
        epoch, place = divmod(step, 4)
        assert share.epoch == epoch
        np.testing.assert_array_equal(share.samples, epoch_order(3, epoch, 21)[5 * place : 5 * place + 5])


def test_the_order_of_an_epoch_never_changes() -> None:
    assert epoch_order(3, 2, 10).tolist() == [9, 4, 5, 2, 8, 6, 1, 3, 0, 7]


@pytest.mark.parametrize(("length", "batch"), [(5, 1), (5, 5), (1, 1)])
def test_the_smallest_and_the_largest_batch_are_allowed(length: int, batch: int) -> None:
    assert Sampler(length, batch, 0).steps_per_epoch == length // batch
