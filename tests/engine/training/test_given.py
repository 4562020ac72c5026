"""Weights that the model gives are what a run begins with, and stay where the layer is not trained."""

from dataclasses import replace

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.graph import Graph, GraphBuilder
from engine.graph.passes.convolution import set_convolutions
from engine.graph.passes.freeze import Frozen, check_frozen, freeze
from engine.graph.passes.rates import set_rates
from layers.conv2d import Conv2d
from layers.flatten import Flatten
from layers.given import Given
from layers.linear import Linear
from layers.reference import reference_of
from layers.relu import ReLU
from tests.engine import cluster
from tests.layers import harness

WEIGHT = np.random.default_rng(3).standard_normal((20, 2, 2, 2), dtype=np.float32)


def network(*, trainable: bool = False, values=None) -> Graph:
    net = GraphBuilder((2, 6, 5))
    net.add("whiten", Given(Conv2d(20, 2), {"weight": WEIGHT} if values is None else values, trainable))
    net.add("relu1", ReLU())
    net.add("conv2", Conv2d(8, 3))
    net.add("flatten", Flatten())
    net.add("fc3", Linear(4, gain=1.0))
    return net.graph()


RECIPE = replace(cluster.RECIPE, steps=3)


@pytest.mark.parametrize("ranks", [1, 2])
def test_weights_that_are_not_trained_are_those_given_and_the_others_move(ranks):
    results, weights = cluster.train(ranks, network(), RECIPE)
    np.testing.assert_array_equal(weights["whiten.weight"], WEIGHT)
    assert not weights["whiten.bias"].any()
    _, before = cluster.train(1, network(), replace(RECIPE, steps=1))
    assert (weights["conv2.weight"] != before["conv2.weight"]).any()
    assert results["weights_sha256"] == cluster.train(1, network(), RECIPE)[0]["weights_sha256"]


def test_a_layer_that_is_trained_begins_with_what_is_given():
    _, moved = cluster.train(1, network(trainable=True), RECIPE)
    _, little = cluster.train(
        1, network(trainable=True), replace(RECIPE, schedule=replace(RECIPE.schedule, rate=1e-9))
    )
    assert (moved["whiten.weight"] != WEIGHT).any()
    np.testing.assert_allclose(little["whiten.weight"], WEIGHT, rtol=0, atol=1e-6)


def test_an_untrained_layer_is_frozen_whatever_rates_others_have():
    graph = freeze(set_rates(network(), [("*", 0.5)]), [])
    layers = {node.name: node.layer for node in graph}
    assert isinstance(layers["whiten"], Frozen)
    assert not isinstance(layers["conv2"], Frozen)
    factors = {each.rate_factor for each in layers["whiten"].parameters((2, 6, 5)).values()}
    assert factors == {0}


def test_settings_of_convolutions_reach_the_one_inside():
    (whiten, *_) = set_convolutions(network(), "direct", 1)
    assert isinstance(whiten.layer, Given)
    assert whiten.layer.layer == Conv2d(20, 2, algorithm="direct")


def test_a_network_without_a_trained_layer_is_refused():
    net = GraphBuilder((3,))
    net.add("fc", Given(Linear(2), {"weight": np.ones((2, 3), np.float32)}))
    with pytest.raises(UserError, match=r"^model: it has no layer with weights to train$"):
        check_frozen(net.graph(), [])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"wait": WEIGHT}, "^whiten: wait: no such weights; must be weight or bias$"),
        (
            {"weight": WEIGHT[:3]},
            r"^whiten: weight: values of shape \(3, 2, 2, 2\) are given; must be \(20, 2",
        ),
        ({"bias": np.full(20, np.nan)}, "^whiten: bias: not all values that are given are finite"),
    ],
)
def test_values_that_do_not_fit_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        network(values=values)


def test_it_cannot_be_split():
    with pytest.raises(ValueError, match=r"^a layer whose weights are given cannot be split$"):
        Given(Conv2d(32, 3), {}).shard(2)


def test_its_reference_is_that_of_the_layer_inside():
    conv = Conv2d(20, 2)
    given = harness.problem(conv, ((2, 6, 5),), 3)
    reference, inside = reference_of(Given(conv, {})), reference_of(conv)
    for one, other in (
        (reference.forward(Given(conv, {}), given), inside.forward(conv, given)),
        (reference.backward_data(Given(conv, {}), given), inside.backward_data(conv, given)),
    ):
        np.testing.assert_array_equal(one, other)
    gradients = reference.backward_weights(Given(conv, {}), given)
    np.testing.assert_array_equal(gradients["weight"], inside.backward_weights(conv, given)["weight"])
