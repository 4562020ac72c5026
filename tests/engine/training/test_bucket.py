"""One bucket on several ranks: reduced, updated strip by strip, broadcast, and its velocities."""

import numpy as np
import pytest

from comm.collectives import Collectives
from comm.comm_thread import CommThread
from comm.threads import run_ranks
from comm.tree import Tree
from engine.training import bucket as module
from engine.training.bucket import Bucket

FLOATS, LEAVES = 1000, 8


def on_ranks(ranks, work, *, ranks_per_host=1):
    """Return `work(rank, bucket)` of all ranks; gradients are small whole numbers, so sums are exact."""

    def rank(world):
        queue = CommThread()
        collectives = Collectives(world, Tree.of(ranks, LEAVES))
        bucket = Bucket("fc1", FLOATS, 1, priority=0, collectives=collectives, queue=queue)
        bucket.weights[:FLOATS] = np.arange(FLOATS)
        bucket.gradients[:FLOATS] = (np.arange(FLOATS) % 7) + world.rank
        result = work(world.rank, bucket)
        queue.close()
        return result

    return run_ranks(ranks, rank, ranks_per_host=ranks_per_host)


def step(bucket):
    """Take one step with a velocity that is the gradient."""

    def update(weights, gradients, velocity, _):
        velocity += gradients
        weights -= velocity

    bucket.submit_reduce()
    bucket.submit_update(update)
    bucket.wait()


def total(ranks):
    return ranks * (np.arange(FLOATS) % 7) + sum(range(ranks))


@pytest.mark.parametrize("ranks_per_host", [1, 4])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_all_ranks_have_the_updated_weights(ranks, ranks_per_host):
    def work(_, bucket):
        step(bucket)
        return bucket.weights[:FLOATS].copy()

    for weights in on_ranks(ranks, work, ranks_per_host=ranks_per_host):
        np.testing.assert_array_equal(weights, np.arange(FLOATS) - total(ranks))


def test_the_pieces_of_an_update_cover_each_strip_once(monkeypatch):
    monkeypatch.setattr(module, "_UPDATED_FLOATS", 48)
    test_all_ranks_have_the_updated_weights(3, 1)


def test_a_job_starts_with_the_last_call_of_its_members():
    def work(_, bucket):
        bucket._members = 2
        bucket.submit_reduce()
        bucket.wait()
        before = bucket.gradients[:FLOATS].copy()
        bucket.submit_reduce()
        bucket.wait()
        return before, bucket.gradients[:FLOATS].copy()

    before, after = on_ranks(2, work)[0]
    np.testing.assert_array_equal(before, np.arange(FLOATS) % 7)
    assert (after != before).any()


@pytest.mark.parametrize("ranks", [1, 3])
def test_velocities_are_gathered_from_all_ranks_and_restored_on_any(ranks):
    def save(_, bucket):
        step(bucket)
        return bucket.gather_velocities()[:FLOATS]

    saved = on_ranks(ranks, save)
    assert all(np.array_equal(velocities, total(ranks)) for velocities in saved)

    def load(_, bucket):
        bucket.restore_velocities(0, saved[0][:300])
        bucket.restore_velocities(300, saved[0][300:])
        return bucket.gather_velocities()[:FLOATS]

    for velocities in on_ranks(4, load):
        np.testing.assert_array_equal(velocities, saved[0])


def test_bytes_are_those_of_all_arrays_and_strips_divide_the_velocities():
    held = on_ranks(4, lambda _, bucket: (bucket.bytes, [array.size for array in bucket.arrays()]))
    padded = Tree.of(4, LEAVES).padded(FLOATS)
    assert held == [(4 * (2 * padded + padded // 4), [padded, padded // 4])] * 4
