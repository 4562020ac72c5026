"""Training with layers split over ranks: the bits of one rank, whatever the plan."""

import random
import time
from dataclasses import replace

import numpy as np
import pytest

from engine.data.dataset import DataSource
from engine.graph import GraphBuilder
from engine.run.checkpoint import read_state, read_tensors
from engine.run.finding import find_checkpoint
from engine.training import parameters
from layers.conv2d import Conv2d
from layers.dropout import Dropout
from layers.flatten import Flatten
from layers.linear import Linear
from layers.relu import ReLU
from tests.engine.cluster import Samples, changed, train
from tests.engine.graphs import convolutional, mixed, wide
from tests.engine.test_training import SGD_VARIANTS, late, naive_weights, untrained
from tests.toy_layer import Scale

PLANS = [
    (2, "fc2=2"),
    (2, "fc1=2,fc2=2,fc3=2,fc4=2"),
    (4, "fc1=2,fc3=2"),
    (4, "fc1=4,fc2=4,fc3=4"),
    (6, "fc1=2,fc4=2"),
    (8, "fc1=8,fc2=8"),
]


@pytest.mark.parametrize(("ranks", "plan"), PLANS)
def test_no_plan_changes_a_bit(ranks, plan):
    graph = wide()
    recipe = changed(optimizer=SGD_VARIANTS["momentum"])
    expected, want = train(1, graph, recipe)
    for overlap in (True, False):
        results, got = train(ranks, graph, changed(recipe, plan=plan, overlap=overlap), threads=2)
        assert results["weights_sha256"] == expected["weights_sha256"]
        assert results["final_loss"] == expected["final_loss"]
        assert results["parameters"] == expected["parameters"]
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)


def test_every_rank_holds_its_part_of_a_split_layer():
    """Of weights and gradients 1/M; velocities are in strips of all ranks anyway."""
    graph = wide()
    whole, split = (
        train(4, graph, changed(steps=1, plan=plan))[0]["parameter_bytes_by_rank"]
        for plan in ("data", "fc1=4,fc2=4")
    )
    floats = sum(
        int(np.prod(parameter.blocked))
        for node in graph
        if node.name in {"fc1", "fc2"}
        for parameter in node.layer.parameters(*graph.input_shapes(node)).values()
    )
    for before, after in zip(whole, split, strict=True):
        assert before - after == pytest.approx(2 * 4 * floats * 3 / 4, rel=0.01)


CONVOLUTION_PLANS = [
    (2, 2, "conv1=2"),
    (2, 2, "conv2=2,conv3=2"),
    (2, 2, "conv1=2,conv2=2,conv3=2,conv4=2,conv5=2,fc6=2"),
    (4, 4, "conv3=2,conv5=2,fc6=2"),
    (4, 4, "conv2=4,conv3=4,fc6=4"),
    (6, 2, "conv4=2"),
    (8, 8, "conv1=4,conv5=4"),
]


@pytest.mark.parametrize("conv", ["auto", "direct"])
@pytest.mark.parametrize(("ranks", "feature_leaves", "plan"), CONVOLUTION_PLANS)
def test_no_plan_for_convolutions_changes_a_bit(ranks, feature_leaves, plan, conv):
    graph = convolutional()
    recipe = changed(
        conv=conv, conv_feature_leaves=feature_leaves, optimizer=SGD_VARIANTS["momentum"], steps=3
    )
    expected, want = train(1, graph, changed(recipe, fuse=False))
    for overlap, fuse in ((True, True), (False, False)):
        results, got = train(
            ranks, graph, changed(recipe, plan=plan, overlap=overlap, fuse=fuse), threads=1 + overlap
        )
        assert results["weights_sha256"] == expected["weights_sha256"]
        assert results["final_loss"] == expected["final_loss"]
        assert results["parameters"] == expected["parameters"]
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)


def test_feature_leaves_of_convolutions_are_part_of_the_recipe():
    hashes = {
        train(1, convolutional(), changed(conv_feature_leaves=leaves, steps=2))[0]["weights_sha256"]
        for leaves in (1, 2, 4)
    }
    assert len(hashes) == 3


@pytest.mark.parametrize(
    ("make", "ranks", "plan"),
    [
        (mixed, 2, "fc4=2,fc5=2"),
        (mixed, 4, "fc4=4"),
        (mixed, 4, "fc5=2"),
        (convolutional, 2, "conv1=2,conv2=2,conv3=2,conv4=2,conv5=2,fc6=2"),
        (convolutional, 4, "conv3=4,conv5=4"),
    ],
)
def test_training_with_a_plan_follows_the_naive_trainer(make, ranks, plan):
    graph = without_dropout(make())
    data = Samples.draw(graph.input_shape, graph.output_shape[0], 64)
    recipe = changed(optimizer=SGD_VARIANTS["momentum"], steps=6, conv_feature_leaves=4)
    losses, want = naive_weights(graph, recipe, data, untrained(graph))
    results, got = train(ranks, late(graph), changed(recipe, plan=plan), data=DataSource(data, None))
    assert results["final_loss"] == pytest.approx(losses[-1], rel=1e-4)
    assert set(got) == set(want)
    for parameter, array in want.items():  # float32 against float64 over six steps
        np.testing.assert_allclose(got[parameter], array, rtol=1e-3, atol=2e-5, err_msg=parameter)


def without_dropout(graph):
    """Return a network with a ReLU after a ReLU where it drops."""
    nodes = tuple(replace(node, layer=ReLU()) if isinstance(node.layer, Dropout) else node for node in graph)
    return type(graph)(graph.input_shape, nodes)


def test_late_messages_change_no_bit_of_a_plan():
    graph, draw = late(mixed()), random.Random(5)
    reference, _ = train(1, graph)
    for _ in range(2):
        results, _ = train(
            4, graph, changed(plan="fc4=2,fc5=2"), delays=lambda: time.sleep(draw.random() * 1e-3)
        )
        assert results["weights_sha256"] == reference["weights_sha256"]


@pytest.mark.parametrize(
    ("make", "plans", "others"),
    [
        (wide, [(4, "fc1=4,fc2=4"), (2, "data")], [(1, "data"), (2, "fc2=2,fc4=2"), (6, "fc3=2")]),
        (convolutional, [(4, "conv2=4,fc6=4"), (2, "data")], [(1, "data"), (2, "conv2=2,conv4=2")]),
    ],
)
def test_a_checkpoint_of_one_plan_goes_on_under_another(tmp_path, make, plans, others):
    graph = make()
    recipe = changed(steps=6, checkpoint_steps=3, conv_feature_leaves=4, optimizer=SGD_VARIANTS["momentum"])
    whole, _ = train(1, graph, recipe, folder=tmp_path / "whole")
    hashes = set()
    for ranks, plan in plans:
        folder = tmp_path / plan
        train(ranks, graph, changed(recipe, steps=3, plan=plan), folder=folder)
        saved = find_checkpoint(folder)
        restore = read_state(saved), read_tensors(saved, graph)
        for more, other in others:
            results, _ = train(more, graph, changed(recipe, plan=other), restore=restore)
            hashes.add(results["weights_sha256"])
    assert hashes == {whole["weights_sha256"]}


def test_evaluation_does_not_notice_a_plan():
    graph = convolutional()
    data = DataSource(
        Samples.draw(graph.input_shape, 10, 64), Samples.draw(graph.input_shape, 10, 37, seed=9)
    )
    results = [
        train(ranks, graph, changed(plan=plan, conv_feature_leaves=4), data=data)[0]
        for ranks, plan in [(1, "data"), (2, "fc6=2"), (4, "conv3=4,fc6=4")]
    ]
    assert len({(r["test_loss"], r["test_accuracy"]) for r in results}) == 1


@pytest.mark.parametrize(("make", "plan"), [(wide, "fc1=2,fc4=2"), (convolutional, "conv1=2,conv4=2")])
def test_a_shard_draws_its_initial_weights_piece_by_piece(monkeypatch, make, plan):
    graph = make()
    want = untrained(graph)
    monkeypatch.setattr(parameters, "_DRAWN_FLOATS", 7)
    got = untrained(graph, 2, plan=plan, conv_feature_leaves=2)
    assert want.keys() == got.keys()
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)


def test_communication_alone_runs_the_exchanges_too():
    results, _ = train(2, wide(), changed(plan="fc1=2,fc2=2", steps=8))
    table = results["where_the_time_went"]
    assert table["communication_alone_seconds"] > 0
    assert {"fc1", "fc2"} < set(table["exposed_communication_seconds_by_layer"])


def behind_a_split(parameters):
    """Return a featurewise layer with state between convolutions that a plan may split."""
    net = GraphBuilder((3, 8, 8))
    net.add("conv1", Conv2d(64, 3, padding=1))
    net.add("scale1", Scale() if parameters else RunningMean())
    net.add("conv2", Conv2d(64, 3, padding=1))
    net.add("flatten", Flatten())
    net.add("fc3", Linear(4, gain=1.0))
    return net.graph()


class RunningMean(Scale):
    """The same without a scale."""

    def parameters(self, *inputs):
        return {}

    def forward(self, at, run):
        super().forward(replace(at, weights={"scale": np.ones(64, np.float32)}), run)

    def backward_weights(self, at, run):
        pass

    def backward_data(self, at, run):
        at.dx[0][...] = at.dy[0]


@pytest.mark.parametrize("parameters", [True, False])
@pytest.mark.parametrize(("ranks", "plan"), [(2, "conv1=2"), (4, "conv1=2,conv2=2")])
def test_a_featurewise_layer_with_state_behind_a_split_one_computes_the_own_samples(ranks, plan, parameters):
    graph = behind_a_split(parameters)
    assert graph.nodes[1].layer.featurewise
    recipe = changed(conv_feature_leaves=2)
    expected, _ = train(1, graph, recipe)
    results, _ = train(ranks, graph, changed(recipe, plan=plan))
    for figure in ("weights_sha256", "state_sha256", "final_loss"):
        assert results[figure] == expected[figure], figure
