"""Data that is shuffled in windows: every sample once, each leaf its own blocks, little to hold."""

import numpy as np
import pytest

from engine.data.sampler import Sampler
from engine.data.windows import BLOCKS, Windows


@pytest.mark.parametrize(
    ("length", "batch", "leaves", "size"),
    [
        (1000, 40, 4, 64),
        (1000, 40, 4, 5000),
        (96, 16, 16, 16),
        (1003, 8, 1, 100),
        (17, 16, 2, 1),
        (50, 10, 2, 7),
    ],
)
def test_an_epoch_takes_each_sample_once_at_most_and_each_leaf_reads_blocks_of_its_own(
    length, batch, leaves, size
):
    block = -(-size // BLOCKS)
    for epoch in range(3):
        order = Windows(size, leaves).order(5, epoch, length, batch)
        assert order.shape == (length // batch * batch,)
        assert len(np.unique(order)) == len(order)
        assert 0 <= order.min() <= order.max() < length
        by_leaf = order.reshape(-1, leaves, batch // leaves).transpose(1, 0, 2).reshape(leaves, -1)
        blocks = [set((samples // block).tolist()) for samples in by_leaf]
        shared = sum(map(len, blocks)) - len(set().union(*blocks))
        assert shared <= leaves - 1  # a block where one run ends and the next begins
        for samples in by_leaf:
            for start in range(0, len(samples), size):
                held = np.unique(samples[start : start + size] // block)
                assert len(held) <= BLOCKS + 2  # a shorter last block, and one that a window cuts


def test_windows_are_shuffled_and_differ_by_seed_and_epoch():
    windows = Windows(64, 2)
    orders = {windows.order(seed, epoch, 512, 16).tobytes() for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    order = windows.order(0, 0, 512, 16).reshape(-1, 2, 8)[:, 0].reshape(-1)
    assert (np.diff(order) == 1).mean() < 0.1
    assert windows.order(0, 0, 512, 16).tobytes() == windows.order(0, 0, 512, 16).tobytes()


@pytest.mark.parametrize("first_step", [0, 3, 9])
def test_training_resumes_at_any_step(first_step):
    sampler = Sampler(length=100, batch=16, seed=0, windows=Windows(24, 4))
    assert sampler.steps_per_epoch == 6
    whole, resumed = sampler.training(), sampler.training(first_step)
    for _ in range(first_step):
        next(whole)
    for _ in range(8):
        ours, theirs = next(resumed), next(whole)
        assert ours.epoch == theirs.epoch
        np.testing.assert_array_equal(ours.samples, theirs.samples)


def test_the_order_is_what_it_was():
    """Recipes' bits hang on it."""
    assert Windows(4, 2).order(1, 2, 13, 4).tolist() == [9, 4, 1, 6, 11, 7, 3, 5, 0, 12, 2, 10]
