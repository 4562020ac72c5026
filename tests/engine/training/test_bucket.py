"""One bucket on several ranks: reduced, updated strip by strip, broadcast, and what it keeps."""

from itertools import pairwise

import numpy as np
import pytest

from comm.collectives import Collectives
from comm.comm_thread import CommThread, InlineCommThread
from comm.threads import run_ranks
from comm.tree import Tree
from engine.training import bucket as module
from engine.training.bucket import AVERAGE, Bucket, Stretch
from engine.training.gradient_norm import GradientNorm
from engine.training.held import Copy
from engine.training.tensor_norms import TensorNorms
from engine.training.update import Update, UpdateForm

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

    def apply(piece):
        (velocity,) = piece.moments
        velocity += piece.gradients
        piece.weights[...] -= velocity

    bucket.submit_reduce()
    bucket.submit_update(Update(apply))
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
def test_moments_are_gathered_from_all_ranks_and_restored_on_any(ranks):
    def save(_, bucket):
        step(bucket)
        return bucket.gather_kept("momentum", Copy(keep=True))[:FLOATS]

    saved = on_ranks(ranks, save)
    assert all(np.array_equal(velocities, total(ranks)) for velocities in saved)

    def load(_, bucket):
        bucket.restore_kept("momentum", 0, saved[0][:300])
        bucket.restore_kept("momentum", 300, saved[0][300:])
        return bucket.gather_kept("momentum", Copy(keep=True))[:FLOATS]

    for velocities in on_ranks(4, load):
        np.testing.assert_array_equal(velocities, saved[0])


def test_bytes_are_those_of_all_arrays_and_strips_divide_the_moments():
    held = on_ranks(4, lambda _, bucket: (bucket.bytes, [array.size for array in bucket.arrays()]))
    padded = Tree.of(4, LEAVES).padded(FLOATS)
    assert held == [(4 * (2 * padded + padded // 4), [padded, padded // 4])] * 4


STRETCHES = (Stretch(0), Stretch(304, 2.0, 0.0), Stretch(320))


def whole_numbers(rank):
    return (np.arange(FLOATS) % 7 + rank).astype(np.float32)


def with_norms(ranks, work, *, limit=0.0, per_tensor=True, averages=False, overlap=True):
    """Return `work(rank, bucket, gradient norm)` of all ranks; squares of whole numbers are exact, too."""

    def rank(world):
        queue = CommThread() if overlap else InlineCommThread()
        collectives = Collectives(world.split(0), Tree.of(ranks, LEAVES))
        norm = GradientNorm(limit, 1, collectives, queue) if limit else None
        bucket = Bucket(
            "fc1", FLOATS, 1, priority=0, collectives=collectives, queue=queue, stretches=STRETCHES,
            form=UpdateForm(per_tensor=per_tensor, holds_back=limit > 0, averages=averages),
            tensor_norms=TensorNorms(len(STRETCHES), collectives, queue) if per_tensor else None,
            gradient_norm=norm,
        )  # fmt: skip
        bucket.weights[:FLOATS] = np.arange(FLOATS)
        bucket.gradients[:FLOATS] = whole_numbers(world.rank)
        result = work(world.rank, bucket, norm)
        queue.close()
        return result

    return run_ranks(ranks, rank)


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_each_tensor_gets_its_own_norms_and_factors(ranks, overlap, monkeypatch):
    monkeypatch.setattr(module, "_UPDATED_FLOATS", 48)

    def work(_, bucket, __):
        seen = set()

        def trust(weights, direction, decay):
            seen.add((weights, direction, decay))
            return weights + direction

        def apply(piece):
            piece.weights[...] = piece.rate * piece.trust

        bucket.submit_reduce()
        bucket.submit_update(Update(apply, direct=halve, trust=trust))
        bucket.wait()
        return bucket.weights[:FLOATS].copy(), seen

    def halve(piece):
        piece.gradients[...] *= 0.5

    borders = (0, 304, 320, FLOATS)
    want = []
    for start, stop in pairwise(borders):
        gradient = 0.5 * total(ranks)[start:stop]
        want.append((np.linalg.norm(np.arange(start, stop)), np.linalg.norm(gradient)))
    for weights, seen in with_norms(ranks, work, overlap=overlap):
        assert seen <= {(*norms, decay) for norms, decay in zip(want, (1.0, 0.0, 1.0), strict=True)}
        for (start, stop), norms, rate in zip(pairwise(borders), want, (1, 2, 1), strict=True):
            assert (weights[start:stop] == np.float32(rate * sum(norms))).all()


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_gradients_are_clipped_to_the_norm_of_all_before_the_update(ranks):
    norm = float(np.linalg.norm(total(ranks)))

    def work(limit):
        def clipped(_, bucket, gradient_norm):
            def apply(piece):
                piece.weights[...] = piece.gradients

            found = []
            for _ in range(2):  # sums do not go on from step to step
                bucket.gradients[:FLOATS] = whole_numbers(bucket._collectives.communicator.rank)
                bucket.submit_reduce()
                bucket.submit_update(Update(apply))
                bucket.wait()
                found.append(gradient_norm.wait())
            return bucket.weights[:FLOATS].copy(), found

        return with_norms(ranks, clipped, limit=limit, per_tensor=False)

    for limit, factor in ((norm / 2, 0.5), (norm, 1.0), (2 * norm, 1.0)):
        for weights, found in work(limit):
            assert found == [norm, norm]
            np.testing.assert_array_equal(weights, np.float32(factor) * total(ranks).astype(np.float32))


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_averages_change_places_with_the_weights_and_back(ranks):
    def work(_, bucket, __):
        def apply(piece):
            piece.average[...] = 2 * piece.weights

        bucket.submit_reduce()
        bucket.submit_update(Update(apply))
        bucket.swap_averages()
        averages = bucket.weights[:FLOATS].copy()
        bucket.swap_averages()
        bucket.start_averages()
        return averages, bucket.weights[:FLOATS].copy(), bucket.gather_kept(AVERAGE, Copy(keep=True))[:FLOATS]

    for averages, weights, restarted in with_norms(ranks, work, per_tensor=False, averages=True):
        np.testing.assert_array_equal(averages, 2 * np.arange(FLOATS))
        np.testing.assert_array_equal(weights, np.arange(FLOATS))
        np.testing.assert_array_equal(restarted, np.arange(FLOATS))


def test_what_is_kept_takes_a_strip_each():
    form = UpdateForm(("exp_avg", "exp_avg_sq"), averages=True)
    padded = Tree.of(4, LEAVES).padded(FLOATS)

    def rank(world):
        queue = CommThread()
        bucket = Bucket(
            "fc1", FLOATS, 1, priority=0, collectives=Collectives(world, Tree.of(4, LEAVES)), queue=queue,
            form=form,
        )  # fmt: skip
        queue.close()
        return bucket.bytes, list(bucket.kept)

    assert run_ranks(4, rank) == [(4 * (2 * padded + 3 * padded // 4), [*form.moments, AVERAGE])] * 4
