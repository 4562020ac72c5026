"""Training with layers split over ranks: the bits of one rank, whatever the plan."""

import random
import time

import numpy as np
import pytest

from engine import parameters
from engine.checkpoint import find_checkpoint, read_state, read_tensors
from engine.data.dataset import DataSource
from tests.engine.cluster import Samples, changed, train
from tests.engine.graphs import mixed, wide
from tests.engine.test_training import SGD_VARIANTS, late, naive_weights, untrained

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


@pytest.mark.parametrize(("ranks", "plan"), [(2, "fc4=2,fc5=2"), (4, "fc4=4"), (4, "fc5=2")])
def test_training_with_a_plan_follows_the_naive_trainer(ranks, plan):
    graph = without_dropout()
    data = Samples.draw(graph.input_shape, graph.output_shape[0], 64)
    recipe = changed(optimizer=SGD_VARIANTS["momentum"], steps=6)
    losses, want = naive_weights(graph, recipe, data, untrained(graph))
    results, got = train(ranks, late(graph), changed(recipe, plan=plan), data=DataSource(data, None))
    assert results["final_loss"] == pytest.approx(losses[-1], rel=1e-4)
    assert set(got) == set(want)
    for parameter, array in want.items():  # float32 against float64 over six steps
        np.testing.assert_allclose(got[parameter], array, rtol=1e-3, atol=2e-5, err_msg=parameter)


def without_dropout():
    """Return the mixed network with a ReLU after a ReLU where it drops."""
    graph = mixed()
    relu = next(node.layer for node in graph if node.name == "relu4")
    nodes = tuple(
        type(node)(node.name, relu, node.inputs) if node.name == "drop4" else node for node in graph
    )
    return type(graph)(graph.input_shape, nodes)


def test_late_messages_change_no_bit_of_a_plan():
    graph, draw = late(mixed()), random.Random(5)
    reference, _ = train(1, graph)
    for _ in range(2):
        results, _ = train(
            4, graph, changed(plan="fc4=2,fc5=2"), delays=lambda: time.sleep(draw.random() * 1e-3)
        )
        assert results["weights_sha256"] == reference["weights_sha256"]


def test_a_checkpoint_of_one_plan_goes_on_under_another(tmp_path):
    graph = wide()
    recipe = changed(steps=6, checkpoint_steps=3)
    whole, _ = train(1, graph, recipe, folder=tmp_path / "whole")
    hashes = set()
    for ranks, plan in [(4, "fc1=4,fc2=4"), (2, "data")]:
        folder = tmp_path / plan
        train(ranks, graph, changed(recipe, steps=3, plan=plan), folder=folder)
        saved = find_checkpoint(folder)
        restore = read_state(saved), read_tensors(saved, graph)
        for more, other in [(1, "data"), (2, "fc2=2,fc4=2"), (6, "fc3=2")]:
            results, _ = train(more, graph, changed(recipe, plan=other), restore=restore)
            hashes.add(results["weights_sha256"])
    assert hashes == {whole["weights_sha256"]}


def test_evaluation_does_not_notice_a_plan():
    graph = mixed()
    data = DataSource(
        Samples.draw(graph.input_shape, 10, 64), Samples.draw(graph.input_shape, 10, 37, seed=9)
    )
    results = [
        train(ranks, graph, changed(plan=plan), data=data)[0]
        for ranks, plan in [(1, "data"), (2, "fc4=2"), (4, "fc4=4,fc5=4")]
    ]
    assert len({(r["test_loss"], r["test_accuracy"]) for r in results}) == 1


def test_a_shard_draws_its_initial_weights_piece_by_piece(monkeypatch):
    graph = wide()
    want = untrained(graph)
    monkeypatch.setattr(parameters, "_DRAWN_FLOATS", 7)
    got = untrained(graph, 2, plan="fc1=2,fc4=2")
    assert want.keys() == got.keys()
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)


def test_communication_alone_runs_the_exchanges_too():
    results, _ = train(2, wide(), changed(plan="fc1=2,fc2=2", steps=8))
    table = results["where_the_time_went"]
    assert table["communication_alone_seconds"] > 0
    assert {"fc1", "fc2"} < set(table["exposed_communication_seconds_by_layer"])
