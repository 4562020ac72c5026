"""A convolution that joins gradients has the bits of the layers one by one."""

import numpy as np
import pytest

from layers.conv2d import Conv2d
from layers.joining_conv2d import JoiningConv2d
from layers.kernels import conv_pointwise, threads
from layers.kernels.simd import LANES
from layers.layer import NO_HALO
from tests.layers import harness

SHAPES = [
    (Conv2d(4 * LANES, 1, bias=False), (2 * LANES, 7, 7)),  # tiles that the image cuts
    (Conv2d(3 * LANES + 1, 1), (3 * LANES - 1, 5, 9)),  # padded channels
    (Conv2d(5, 1), (6 * LANES, 1, 3)),
    (Conv2d(17 * LANES, 1), (18 * LANES, 3, 2)),  # several blocks of weights
]


@pytest.fixture(autouse=True)
def _workers_get_even_little_work(monkeypatch):
    monkeypatch.setattr(threads, "INLINE_WORK", 0)


def given_to(conv, shape, samples=3):
    """Return a problem, and the gradient by another reader; some of x is 0, as behind a ReLU."""
    given = harness.problem(conv, (shape,), samples)
    np.maximum(given.inputs[0], 0, out=given.inputs[0])
    return given, harness.problem(conv, (shape,), samples, seed=1).inputs[0]


def one_by_one(conv, given, others, *, rectifies):
    """Return dx of the convolution alone, added to the others and then led back through a ReLU."""
    own = harness.run(conv, given).dx[0].plain() + others.astype(np.float32)
    return np.where(given.inputs[0] <= 0, np.float32(0), own) if rectifies else own


def assert_same_bits(one, other):
    np.testing.assert_array_equal(np.ascontiguousarray(one).view(np.uint32), other.view(np.uint32))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("number", "rectifies", "guard"),
    [
        (0, True, NO_HALO),
        (0, False, harness.GUARD),
        (1, False, NO_HALO),
        (1, True, harness.GUARD),
        (2, False, NO_HALO),
        (3, True, NO_HALO),
    ],
)
def test_the_sum_is_that_of_the_layers_one_by_one(number, rectifies, guard, count, monkeypatch):
    monkeypatch.setattr(harness, "GUARD", guard)
    conv, shape = SHAPES[number]
    given, others = given_to(conv, shape)
    found = harness.run(JoiningConv2d(conv, rectifies), given, threads=count, others=others).dx[0]
    assert_same_bits(found.plain(), one_by_one(conv, given, others, rectifies=rectifies))
    assert not found.padding().any()


@pytest.mark.parametrize(
    ("rectifies", "guard"), [(True, NO_HALO), (False, harness.GUARD)], ids=["in place", "gathered"]
)
@pytest.mark.parametrize("span", [1, 5])
def test_sums_that_wait_for_other_channels_are_joined_at_their_end(rectifies, span, guard, monkeypatch):
    monkeypatch.setattr(harness, "GUARD", guard)
    conv, shape = SHAPES[-1]
    given, others = given_to(conv, shape)
    wanted = one_by_one(conv, given, others, rectifies=rectifies)
    monkeypatch.setattr(conv_pointwise, "span_of_blocks", lambda _blocks: span)
    found = harness.run(JoiningConv2d(conv, rectifies), given, others=others).dx[0].plain()
    assert_same_bits(found, wanted)


@pytest.mark.parametrize("number", [pytest.param(1, id="x"), pytest.param(3, id="the others")])
def test_arrays_that_lie_differently_are_joined_one_by_one(number, monkeypatch):
    conv, shape = SHAPES[0]
    given, others = given_to(conv, shape)
    wanted = one_by_one(conv, given, others, rectifies=True)
    made, calls = harness._given, []

    def given_apart(plain, halo):
        calls.append(halo)
        return made(plain, (2, 2) if len(calls) == number else halo)  # with zeros beside its rows

    monkeypatch.setattr(harness, "_given", given_apart)
    assert_same_bits(
        harness.run(JoiningConv2d(conv, rectifies=True), given, others=others).dx[0].plain(), wanted
    )


def test_alone_it_is_the_convolution():
    conv, shape = SHAPES[1]
    given, _ = given_to(conv, shape)
    one, other = (harness.run(layer, given) for layer in (conv, JoiningConv2d(conv)))
    assert_same_bits(one.dx[0].plain(), other.dx[0].plain())


@pytest.mark.parametrize(
    ("conv", "joins"),
    [
        (Conv2d(64, 1), True),
        (Conv2d(64, 1, stride=2), False),
        (Conv2d(64, 3, padding=1), False),
        (Conv2d(64, 1, feature_leaves=4), False),
        (Conv2d(5, 1, feature_leaves=4), True),  # too few channels for two leaves
        (Conv2d(64, 1, padding=1), False),
        (Conv2d(64, 1, precision="bf16"), False),
    ],
    ids=str,
)
def test_only_1x1_convolutions_of_one_sum_can_join(conv, joins):
    assert conv.can_join((32, 8, 8)) is joins
