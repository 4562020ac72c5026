"""Exchanges by themselves: which values each rank has afterwards, and what is summed on the way back."""

import numpy as np
import pytest

from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.threads import run_ranks
from comm.tree import STRIP_FLOATS, Tree
from engine.graph.parallel.exchange import GatherFeatures, GatherSamples, SwapFeatures
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads
from layers.layer import Buffers, Context
from layers.layout import from_blocked, interior, storage_shape, to_blocked
from layers.relu import ReLU

SAMPLES = 8
HALO = (1, 2)
SHAPES = {
    "vector": (6 * LANES + 3,),
    "image": (6 * LANES + 3, 3, 2),
}
"""Their last part has fewer features than the others, and no whole block."""


def whole(shape, seed=1):
    """Return the value of all samples: whole numbers, so that sums are exact."""
    return np.random.default_rng(seed).integers(-9, 9, (SAMPLES, *shape)).astype(np.float32)


def stored(plain, halo=(0, 0)):
    """Return a plain value in storage, with a halo."""
    array = np.zeros(storage_shape(plain.shape[1:], len(plain), halo), np.float32)
    inside = interior(array, plain.shape[1:], halo)
    to_blocked(np.ascontiguousarray(plain), inside)
    return inside


def exchanged(kind, ranks, shape, x_of, dy_of, y_shape, *, halo=(0, 0)):
    """Return y and dx of each rank, plain."""
    blocks = -(-shape[0] // LANES)
    width = blocks // ranks * LANES if blocks % ranks == 0 else (blocks // ranks + 1) * LANES

    def rank(world):
        group = Collectives(world, Tree.of(ranks, ranks))
        layer = kind("exchange fc", shape[0], width, group, InlineCommThread())
        features = slice(world.rank * width, min((world.rank + 1) * width, shape[0]))
        own = slice(world.rank * SAMPLES // ranks, (world.rank + 1) * SAMPLES // ranks)
        x, dy = x_of(own, features), dy_of(world.rank, own)
        at = Buffers(
            0, (x.shape[1:],), dy.shape[1:],
            x=(stored(x),), y=(stored(np.zeros(y_shape(own), np.float32), halo),),
            dx=(stored(np.zeros_like(x)),), dy=(stored(dy, halo),),
        )  # fmt: skip
        for name, scratch in layer.scratch(len(dy), 1, 1, x.shape[1:]).items():
            at.scratch[name] = np.full(scratch.shape, np.nan, np.float32)
            assert scratch.shape[1] % STRIP_FLOATS == 0
        run = Context(Threads(1))
        layer.forward(at, run)
        layer.backward_data(at, run)
        y, dx = from_blocked(at.y[0], dy.shape[1:]), from_blocked(at.dx[0], x.shape[1:])
        return y, dx, own, features

    return run_ranks(ranks, rank)


@pytest.mark.parametrize("halo", [(0, 0), HALO])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("ranks", [2, 4])
def test_samples_are_gathered_and_their_gradients_summed(ranks, shape, halo):
    value = whole(shape)
    partials = [whole(shape, seed) for seed in range(ranks)]
    found = exchanged(
        GatherSamples, ranks, shape,
        lambda own, _: value[own], lambda rank, _: partials[rank], lambda _: value.shape, halo=halo,
    )  # fmt: skip
    for y, dx, own, _ in found:
        np.testing.assert_array_equal(y, value)
        np.testing.assert_array_equal(dx, sum(partials)[own])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("ranks", [2, 4])
def test_features_are_gathered_and_their_gradients_summed(ranks, shape):
    value = whole(shape)
    partials = [whole(shape, seed) for seed in range(ranks)]
    found = exchanged(
        GatherFeatures, ranks, shape,
        lambda _, features: value[:, features], lambda rank, _: partials[rank], lambda _: value.shape,
    )  # fmt: skip
    for y, dx, _, features in found:
        np.testing.assert_array_equal(y, value)
        np.testing.assert_array_equal(dx, sum(partials)[:, features])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("ranks", [2, 4])
def test_features_are_swapped_for_samples_and_back(ranks, shape):
    value, gradient = whole(shape), whole(shape, 2)
    found = exchanged(
        SwapFeatures, ranks, shape,
        lambda _, features: value[:, features], lambda _, own: gradient[own], lambda own: value[own].shape,
    )  # fmt: skip
    for y, dx, own, features in found:
        np.testing.assert_array_equal(y, value[own])
        np.testing.assert_array_equal(dx, gradient[:, features])


def test_the_cost_of_an_exchange_depends_on_the_number_of_its_pieces():
    def key(world):
        group = Collectives(world, Tree.of(world.size, world.size))
        return GatherSamples("exchange fc", 64, LANES, group, InlineCommThread()).cost_key()

    (two, *_), (four, *_) = run_ranks(2, key), run_ranks(4, key)
    assert two != four
    assert two.endswith("x2") and ReLU().cost_key() not in two
