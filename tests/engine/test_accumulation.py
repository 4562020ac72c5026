"""Microbatches: the bits of a whole minibatch, in less memory."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from comm.threads import single_rank
from engine.data.dataset import DataSource
from engine.explain import explain_trace
from engine.graph import GraphBuilder
from engine.profile.trace_file import read_trace
from engine.run.checkpoint import read_state, read_tensors
from engine.run.finding import find_checkpoint
from engine.run.launch import run
from engine.run.start import new_run
from engine.training.microbatches import Microbatch
from layers.conv2d import Conv2d
from layers.global_avg_pool import GlobalAvgPool
from layers.grouped_conv2d import GroupedConv2d
from layers.linear import Linear
from layers.relu import ReLU
from layers.work import FORWARD
from tests.engine.cluster import Samples, changed, train
from tests.engine.graphs import convolutional, mixed, perceptron, wide, with_dropout
from tests.golden.networks import with_state

SAME = ("weights_sha256", "state_sha256", "final_loss", "test_loss", "test_accuracy")
RECIPE = changed(batch=32, leaves=16, steps=2)
SPLIT = {
    convolutional: "conv1=2,conv3=2,conv5=2,fc6=2",
    mixed: "fc4=2,fc5=2",
    wide: "fc1=2,fc2=2,fc3=2,fc4=2",
}


def ended(ranks, graph, **fields):
    network = graph()
    (classes,), shape = network.output_shape, network.input_shape
    data = DataSource(Samples.draw(shape, classes, 64), Samples.draw(shape, classes, 40, seed=1))
    results, weights = train(ranks, network, replace(RECIPE, **fields), data=data)
    return {name: results[name] for name in SAME}, results, weights


@pytest.mark.parametrize("graph", [mixed, with_dropout, with_state])
def test_microbatches_change_no_bit_on_any_ranks(graph):
    """Weights, state, losses and evaluation; 3 ranks hold one or two blocks of leaves."""
    whole, _, _ = ended(1, graph)
    for ranks in (1, 2, 3, 4):
        for microbatches in (2, 4):
            overlap = (ranks + microbatches) % 4 != 0
            assert ended(ranks, graph, accumulate=microbatches, overlap=overlap)[0] == whole, (
                ranks,
                microbatches,
            )


def prepared():
    """Return a graph whose passes transform or transpose weights: Winograd, direct, groups."""
    net = GraphBuilder((32, 12, 12))
    net.add("conv1", Conv2d(32, 3, padding=1))
    net.add("conv2", GroupedConv2d(32, 3, padding=1, groups=2))
    net.add("relu2", ReLU())
    net.add("conv3", Conv2d(32, 3, padding=1))
    net.add("relu3", ReLU())
    net.add("conv4", Conv2d(48, 3, stride=2, padding=1))
    net.add("pool", GlobalAvgPool())
    net.add("fc", Linear(5, gain=1.0))
    return net.graph()


@pytest.mark.parametrize("feature_leaves", [1, 2])
def test_weights_that_are_prepared_once_are_those_of_the_step(feature_leaves):
    """Evaluations, by averages, come between steps whose microbatches keep transformed weights."""
    (conv,) = (node.layer for node in prepared() if node.name == "conv3")
    assert conv.is_winograd(FORWARD, 2, (32, 12, 12))
    fields = {"steps": 5, "evaluate_every": 1, "ema": 0.5, "conv_feature_leaves": feature_leaves}
    whole, _, _ = ended(1, prepared, **fields)
    for ranks, microbatches in ((1, 4), (2, 2), (2, 8)):
        assert ended(ranks, prepared, accumulate=microbatches, **fields)[0] == whole


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("graph", SPLIT)
def test_microbatches_change_no_bit_where_ranks_share_layers(graph, overlap):
    """A shard has samples of several ranks in each microbatch, whose leaves are no neighbours."""
    fields = {"conv_feature_leaves": 2, "overlap": overlap}
    whole, _, _ = ended(1, graph, **fields)
    for ranks, microbatches, fuse in ((2, 2, True), (2, 4, False), (4, 2, False), (4, 4, True)):
        got, _, _ = ended(ranks, graph, plan=SPLIT[graph], accumulate=microbatches, fuse=fuse, **fields)
        assert got == whole, (ranks, microbatches)


def test_groups_of_four_add_their_members_as_a_tree():
    plan = "fc1=4,fc2=4,fc3=4"
    assert ended(4, wide, plan=plan, accumulate=4)[0] == ended(1, wide)[0]


def test_frozen_layers_and_rates_of_their_own_change_no_bit_either():
    fields = {"freeze": ("conv1", "fc4"), "bucket_kib": 1}
    whole, _, _ = ended(1, mixed, **fields)
    assert ended(2, mixed, plan="fc4=2,fc5=2", accumulate=4, **fields)[0] == whole


def test_a_run_goes_on_with_another_number_of_microbatches(tmp_path):
    graph = perceptron()
    whole, _ = train(1, graph, changed(steps=8))
    train(2, graph, changed(steps=5, checkpoint_steps=5, accumulate=4), folder=tmp_path)
    saved = find_checkpoint(tmp_path)
    restore = read_state(saved), read_tensors(saved, graph)
    for ranks, microbatches in ((1, 8), (3, 2), (2, 1)):
        rest, _ = train(ranks, graph, changed(steps=8, accumulate=microbatches), restore=restore)
        assert rest["weights_sha256"] == whole["weights_sha256"], microbatches


def test_figures_of_a_run_say_the_microbatches_and_add_up(tmp_path, capsys):
    results, _ = train(2, mixed(), replace(RECIPE, steps=6, accumulate=4), folder=tmp_path)
    assert results["accumulate"] == 4
    assert "plan data, 4 microbatches a rank" in capsys.readouterr().err
    table = results["where_the_time_went"]
    explained = sum(
        table[f"{name}_seconds"]
        for name in (
            "forward", "backward_weights", "backward_data", "update", "exposed_communication",
            "data_wait", "rest",
        )
    )  # fmt: skip
    assert explained == pytest.approx(table["step_seconds"], rel=1e-6)  # sums of floats
    assert table["rest_seconds"] > 0
    steps = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [each["step"] for each in steps if each["kind"] == "step"] == [1, 2, 3, 4, 5, 6]


def test_a_trace_has_the_passes_of_all_microbatches_and_explains_the_same(tmp_path):
    fields = {"steps": 6, "epochs": 0, "threads": 1, "accumulate": 4}
    path = tmp_path / "trace.json"
    results = run(
        single_rank(),
        lambda: new_run("digits", {**fields, "out": str(tmp_path / "run"), "trace": str(path)}),
    )
    trace = read_trace(path)
    explained, table = explain_trace(trace, path).to_json(), results["where_the_time_went"]
    for name in ("step_seconds", "forward_seconds", "backward_weights_seconds", "rest_seconds"):
        assert explained[name] == pytest.approx(table[name], rel=1e-3, abs=1e-6), name  # whole nanoseconds
    spans = [span.name for rank in trace.ranks for span in rank]
    assert spans.count("conv1 forward") >= 6 * 4
    assert spans.count("conv1 forward") % 4 == 0


def test_what_is_predicted_of_a_layer_is_that_of_all_microbatches():
    whole = ended(1, perceptron)[1]["predicted"]["layers"]
    microbatches = ended(1, perceptron, accumulate=4)[1]["predicted"]["layers"]
    assert {name: each["flop"] for name, each in microbatches.items()} == {
        name: each["flop"] for name, each in whole.items()
    }


def test_every_sample_is_in_one_microbatch_of_one_rank(monkeypatch):
    seen = []
    made = Microbatch.__init__

    def noted(self, **given):
        made(self, **given)
        seen.append((self.places.start, self.places.stop, self.is_last))

    monkeypatch.setattr(Microbatch, "__init__", noted)
    train(3, perceptron(), replace(RECIPE, steps=1, accumulate=2))
    places = sorted((start, stop) for start, stop, _ in seen)
    assert places[0][0] == 0
    assert places[-1][1] == RECIPE.batch
    assert all(before[1] == after[0] for before, after in pairwise(places))
    assert sum(is_last for _, _, is_last in seen) == 3
