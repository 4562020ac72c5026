"""Training with layers that are frozen or have rates of their own, from weights that are there already."""

from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.grid import Grid
from comm.threads import single_rank
from comm.tree import Tree
from engine.config.recipe import ScheduleFields
from engine.data.dataset import DataSource
from engine.data.loader import Batch
from engine.graph.parallel.plan import Plan
from engine.planner.design import Design
from engine.planner.simulation.simulator import simulate
from engine.profile.recorder import Recorder
from engine.profile.timed_layer import timed
from engine.run.checkpoint import read_state, read_tensors
from engine.run.finding import find_checkpoint
from engine.training.rank import build_rank
from engine.training.rank_parameters import BUCKET_FLOATS
from engine.training.rank_settings import RankSettings
from engine.training.step import train_step
from engine.training.update import NOTHING
from layers.kernels.threads import Threads
from layers.layer import Context
from tests.engine.cluster import Samples, changed, train
from tests.engine.graphs import GRAPHS, chain, convolutional, mixed, perceptron, residual, wide
from tests.engine.planner.clusters import cluster
from tests.engine.test_training import SGD_VARIANTS, late, naive_weights, untrained
from tests.test_new_layer import network as with_state

RATES = ScheduleFields(rate=0.05)
FROZEN = {
    "perceptron": ["fc1", "fc2", "fc3", "fc1,fc2", "fc2,fc3"],
    "chain": ["conv*", "conv2", "conv1", "fc3"],
    "residual": ["conv1,conv2", "conv[123]", "conv4", "project", "conv*", "fc5"],
    "branches": ["conv1x1", "conv3x3", "conv*"],
}


def frozen_in(graph, patterns):
    """Return the nodes that the patterns of these tests mean."""
    names = {node.name for node in graph}
    if patterns == "conv*":
        return {name for name in names if name.startswith("conv")}
    return {"conv1", "conv2", "conv3"} if patterns == "conv[123]" else set(patterns.split(","))


@pytest.mark.parametrize(("ranks", "bucket_floats"), [(1, BUCKET_FLOATS), (2, 0), (3, BUCKET_FLOATS)])
@pytest.mark.parametrize(
    ("name", "patterns"), [(name, each) for name, several in FROZEN.items() for each in several]
)
def test_frozen_layers_follow_the_naive_trainer(name, patterns, ranks, bucket_floats):
    graph = late(GRAPHS[name]())
    data = Samples.draw(graph.input_shape, graph.output_shape[0], 64)
    recipe = changed(optimizer=SGD_VARIANTS["momentum"], steps=4, freeze=tuple(patterns.split(",")))
    initial, frozen = untrained(graph), frozen_in(graph, patterns)
    losses, want = naive_weights(GRAPHS[name](), recipe, data, initial, frozen=frozen)
    results, got = train(ranks, graph, recipe, data=DataSource(data, None), bucket_floats=bucket_floats)
    assert results["final_loss"] == pytest.approx(losses[-1], rel=1e-4)
    assert set(results["frozen"]) == frozen
    for parameter, array in want.items():  # float32 against float64 over four steps
        np.testing.assert_allclose(got[parameter], array, rtol=1e-3, atol=2e-5, err_msg=parameter)
        is_same = bool((got[parameter] == initial[parameter]).all())
        assert is_same == (parameter.split(".")[0] in frozen), parameter


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("overlap", [True, False])
def test_the_bits_of_frozen_layers_do_not_depend_on_how_it_runs(fuse, overlap):
    graph = residual()
    recipe = changed(freeze=("conv[124]",), optimizer=SGD_VARIANTS["momentum"])
    reference, _ = train(1, graph, recipe)
    for ranks, floats in ((2, 0), (3, BUCKET_FLOATS), (5, 700)):
        results, _ = train(
            ranks, graph, changed(recipe, fuse=fuse, overlap=overlap), threads=2, bucket_floats=floats
        )
        assert results["weights_sha256"] == reference["weights_sha256"]
        assert results["final_loss"] == reference["final_loss"]


@pytest.mark.parametrize(
    ("make", "freeze", "ranks", "plan", "leaves"),
    [
        (wide, "fc1", 2, "fc1=2,fc2=2,fc3=2,fc4=2", 1),
        (wide, "fc2,fc4", 4, "fc1=2,fc2=2,fc4=2", 1),
        (wide, "fc[123]", 4, "fc1=4,fc2=4,fc3=4", 1),
        (mixed, "conv*,fc4", 2, "fc4=2,fc5=2", 1),
        (mixed, "fc5", 4, "fc4=4,fc5=4", 1),
        (convolutional, "conv[1-3]", 2, "conv1=2,conv2=2,conv3=2,conv4=2,conv5=2,fc6=2", 2),
        (convolutional, "conv4,conv5", 2, "conv3=2,conv4=2,conv5=2", 2),
    ],
)
def test_no_plan_changes_a_bit_of_frozen_layers_split_or_whole(make, freeze, ranks, plan, leaves):
    graph = make()
    recipe = changed(
        freeze=tuple(freeze.split(",")),
        conv_feature_leaves=leaves,
        optimizer=SGD_VARIANTS["momentum"],
        steps=3,
    )
    expected, want = train(1, graph, changed(recipe, fuse=False))
    for overlap in (True, False):
        results, got = train(ranks, graph, changed(recipe, plan=plan, overlap=overlap))
        assert results["weights_sha256"] == expected["weights_sha256"]
        assert results["final_loss"] == expected["final_loss"]
        assert results["frozen"] == expected["frozen"]
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)


def passes_and_jobs(graph, **settings):
    """Take a step on one rank; return how often each pass and job of each node ran, and its bytes."""
    recorder = Recorder(keep=True)
    queue = InlineCommThread(on_span=recorder.communication)
    grid = Grid.of(Collectives(single_rank(), Tree.of(1, 4)), 1)
    rank = build_rank(
        graph, RankSettings(8, 1, **settings), Plan(), grid, queue, wrap=partial(timed, recorder=recorder)
    )
    rank.initialise(1)
    samples = Samples.draw(graph.input_shape, graph.output_shape[0], 8)
    batch = Batch(samples.x, samples.labels.astype(np.int32), np.arange(8), 0)
    train_step(rank, (batch,), Context(Threads(1)), NOTHING)
    return Counter(span.name for span in recorder.spans), rank.parameters.parameter_bytes


def test_below_the_lowest_layer_that_is_trained_nothing_runs_backward():
    everything, whole = passes_and_jobs(chain(), bucket_floats=0)
    frozen, held = passes_and_jobs(chain(), bucket_floats=0, freeze=("conv*",))
    assert everything - frozen == Counter(
        {
            "conv1 backward_weights": 1, "conv2 backward_weights": 1, "conv2 backward_data": 1,
            "fc3 backward_data": 1, "flatten backward_data": 1,
            "reduce conv1": 1, "update conv1": 1, "reduce conv2": 1, "update conv2": 1,
        }
    )  # fmt: skip
    assert frozen - everything == Counter()
    assert held < 0.65 * whole  # of the convolutions the weights only


def test_above_a_layer_that_is_trained_the_gradient_goes_through_what_is_frozen():
    everything, _ = passes_and_jobs(chain(), bucket_floats=0)
    frozen, _ = passes_and_jobs(chain(), bucket_floats=0, freeze=("conv2", "fc3"))
    assert everything - frozen == Counter(
        {
            "conv2 backward_weights": 1, "fc3 backward_weights": 1,
            "reduce conv2": 1, "update conv2": 1, "reduce fc3": 1, "update fc3": 1,
        }
    )  # fmt: skip


def test_trained_and_frozen_neighbours_and_other_rates_share_no_bucket():
    jobs, _ = passes_and_jobs(perceptron(), bucket_floats=1 << 20, freeze=("fc2",))
    assert jobs["update fc1..fc3"] == 1
    jobs, _ = passes_and_jobs(perceptron(), bucket_floats=1 << 20, rate_factors=(("fc2", 3.0),))
    assert [jobs[f"update {name}"] for name in ("fc1", "fc2", "fc3", "fc1..fc3")] == [1, 1, 1, 0]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_state_of_a_frozen_layer_stays(ranks):
    graph = with_state()
    data = DataSource(Samples.draw((3, 8, 8), 5, 64), None)
    free, _ = train(1, graph, changed(steps=1), data=data)
    both, _ = train(ranks, graph, changed(steps=3, freeze=("scale*",)), data=data)
    one, _ = train(ranks, graph, changed(steps=3, freeze=("scale1",)), data=data)
    again, _ = train(1, graph, changed(steps=2, freeze=("scale1", "scale2")), data=data)
    hashes = [each["state_sha256"] for each in (free, both, one, again)]
    assert hashes[1] == hashes[3]  # as in the beginning, whatever the steps
    assert len(set(hashes)) == 3


@pytest.mark.parametrize("variant", SGD_VARIANTS)
def test_rates_of_their_own_follow_the_naive_trainer(variant):
    graph = residual()
    data = Samples.draw(graph.input_shape, graph.output_shape[0], 64)
    rates = ScheduleFields(rate=0.02, rates={"conv1": 0.5, "conv*": 0.1, "fc5": 3.0})
    recipe = changed(schedule=rates, optimizer=SGD_VARIANTS[variant])
    factors = {"conv1": 0.5, "conv2": 0.1, "conv3": 0.1, "conv4": 0.1, "fc5": 3.0}
    losses, want = naive_weights(graph, recipe, data, untrained(graph), rate_factors=factors)
    hashes = set()
    for ranks, floats in ((1, BUCKET_FLOATS), (2, 0), (3, 700)):
        results, got = train(ranks, graph, recipe, data=DataSource(data, None), bucket_floats=floats)
        hashes.add(results["weights_sha256"])
        assert results["final_loss"] == pytest.approx(losses[-1], rel=1e-4)
        for parameter, array in want.items():  # float32 against float64 over four steps
            np.testing.assert_allclose(got[parameter], array, rtol=1e-3, atol=2e-5, err_msg=parameter)
    assert len(hashes) == 1


def test_a_factor_of_one_changes_no_bit():
    plain, _ = train(1, residual(), changed(schedule=RATES))
    ones, _ = train(2, residual(), changed(schedule=ScheduleFields(rate=0.05, rates={"conv*": 1.0})))
    assert ones["weights_sha256"] == plain["weights_sha256"]


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_run_with_frozen_layers_goes_on_with_its_bits(tmp_path, ranks):
    graph = residual()
    recipe = changed(freeze=("conv[12]",), optimizer=SGD_VARIANTS["momentum"], checkpoint_every=1)
    whole, _ = train(1, graph, changed(recipe, steps=7))
    train(2, graph, changed(recipe, steps=3), folder=tmp_path)
    saved = find_checkpoint(tmp_path)
    tensors = read_tensors(saved, graph)
    assert {name for name in tensors if "conv1" in name} == {"conv1.weight", "conv1.bias"}
    assert "momentum.conv3.weight" in tensors
    resumed, _ = train(ranks, graph, changed(recipe, steps=7), restore=(read_state(saved), tensors))
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    assert resumed["final_loss"] == whole["final_loss"]


@pytest.mark.parametrize(("ranks", "plan"), [(1, "data"), (2, "fc1=2,fc3=2"), (3, "data"), (4, "fc1=4")])
def test_given_weights_are_taken_and_the_others_drawn_whatever_the_plan(ranks, plan):
    graph = wide()
    drawn = untrained(graph)
    given = {name: drawn[name] + 1 for name in ("fc1.weight", "fc3.weight", "fc3.bias")}
    for array in given.values():  # as those of a file may be
        array.flags.writeable = False
    recipe = changed(steps=1, schedule=ScheduleFields(rate=0.0), plan=plan)
    _, weights = train(ranks, graph, recipe, given=given)
    for name, array in weights.items():
        np.testing.assert_array_equal(array, given.get(name, drawn[name]), err_msg=name)


def test_given_state_is_taken_too():
    graph = with_state()
    data = DataSource(Samples.draw((3, 8, 8), 5, 64), None)
    recipe = changed(steps=1, freeze=("scale*",))
    given = {"scale1.mean": np.full(20, 7.0, np.float32)}
    plain, taken = (train(2, graph, recipe, data=data, given=each)[0] for each in (None, given))
    assert plain["weights_sha256"] == taken["weights_sha256"]  # in training nobody reads it
    assert plain["state_sha256"] != taken["state_sha256"]


@pytest.mark.parametrize("overlap", [True, False])
def test_the_planner_simulates_what_is_left_to_do(overlap):
    design = Design(
        "cifar10", ranks=4, batch=64, leaves=16, plan=Plan(), threads=1, overlap=overlap, bucket_floats=0
    )
    steps = [
        simulate(replace(design, freeze=freeze), cluster()).step_seconds
        for freeze in ((), ("conv1_*",), ("conv*",))
    ]
    assert steps == sorted(steps, reverse=True)
    assert steps[2] < 0.5 * steps[0]  # of three passes one
