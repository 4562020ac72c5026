"""Batch normalisation over groups of samples that one rank holds, or several: the same bits."""

import random
import time
from dataclasses import replace

import numpy as np
import pytest

from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.grid import Grid
from comm.threads import run_ranks
from comm.tree import Tree
from engine.config.recipe import OptimizerFields
from engine.data.dataset import DataSource
from engine.graph import Graph, GraphBuilder
from engine.graph.parallel.exchange import URGENT
from engine.graph.parallel.shared_norm import SharedNorm, share_norms
from engine.graph.passes.norm_groups import norm_inside, set_norm_groups
from engine.run.checkpoint import read_state, read_tensors
from engine.run.communication_cost import communication_alone
from engine.run.finding import find_checkpoint
from engine.training.rank_settings import settings_of
from layers.batch_norm import BatchNorm
from layers.conv2d import Conv2d
from layers.given import Given
from layers.global_avg_pool import GlobalAvgPool
from layers.linear import Linear
from layers.relu import ReLU
from tests.engine.cluster import RECIPE, Samples, changed, make_trainer, train
from tests.engine.graphs import normed, normed_split
from tests.engine.test_training import late, naive_weights, untrained

LEAVES = RECIPE.leaves
GROUPS = (1, 2, 4, 8)
FIGURES = ("weights_sha256", "state_sha256", "final_loss", "test_loss", "test_accuracy")
DATA = DataSource(Samples.draw((2, 8, 8), 4, 64), Samples.draw((2, 8, 8), 4, 24, seed=1))


def figures(ranks: int, graph: Graph, recipe=RECIPE, **how):
    results, _ = train(ranks, graph, recipe, data=DATA, **how)
    return {name: results[name] for name in FIGURES}


@pytest.mark.parametrize("groups", GROUPS)
def test_the_bits_do_not_depend_on_ranks_threads_or_overlap(groups):
    recipe = changed(norm_groups=groups)
    reference = figures(1, normed(), recipe)
    for ranks, threads, overlap in [(2, 1, True), (3, 1, True), (4, 2, False), (5, 1, True), (8, 1, True)]:
        assert figures(ranks, normed(), replace(recipe, overlap=overlap), threads=threads) == reference, ranks


def test_each_number_of_groups_has_bits_of_its_own():
    assert (
        len({figures(1, normed(), changed(norm_groups=groups))["weights_sha256"] for groups in GROUPS}) == 4
    )


@pytest.mark.parametrize(("ranks", "groups"), [(1, 4), (2, 1), (3, 2), (4, 2), (4, 4)])
def test_training_follows_the_naive_trainer_with_weights_and_running_statistics(ranks, groups, tmp_path):
    graph = late(normed())
    recipe = changed(
        optimizer=OptimizerFields(momentum=0.9, weight_decay=0.01),
        steps=6,
        norm_groups=groups,
        checkpoint_every=1,
    )
    running = {
        (node.name, name): np.full(graph.shapes[node.name][0], value)
        for node in graph
        if isinstance(node.layer, BatchNorm)
        for name, value in (("running_mean", 0.0), ("running_var", 1.0))
    }
    losses, want = naive_weights(
        normed(), recipe, DATA.train, untrained(graph), norm_groups=groups, running=running
    )
    results, _ = train(ranks, graph, recipe, data=DATA, folder=tmp_path)
    got = read_tensors(find_checkpoint(tmp_path), graph)
    assert results["final_loss"] == pytest.approx(losses[-1], rel=1e-4)
    want |= {".".join(name): array for name, array in running.items()}
    for name, array in want.items():  # float32 against float64 over six steps
        np.testing.assert_allclose(got[name], array, rtol=1e-3, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("groups", [1, 4])
def test_a_resumed_run_ends_with_the_same_weights_and_state(groups, tmp_path):
    recipe = changed(norm_groups=groups)
    whole = figures(1, normed(), recipe)
    train(3, normed(), replace(recipe, steps=2, checkpoint_every=1), data=DATA, folder=tmp_path)
    checkpoint = find_checkpoint(tmp_path)
    restore = read_state(checkpoint), read_tensors(checkpoint, normed())
    for ranks in (1, 4):
        assert figures(ranks, normed(), recipe, restore=restore) == whole


def test_the_bits_do_not_depend_on_when_messages_arrive():
    draw, recipe = random.Random(5), changed(norm_groups=1)
    reference = figures(1, late(normed()), recipe)
    for ranks_per_host in (1, 2, 4):
        found = figures(
            4, late(normed()), recipe, delays=lambda: time.sleep(draw.random() * 2e-3),
            ranks_per_host=ranks_per_host,
        )  # fmt: skip
        assert found == reference


@pytest.mark.parametrize("frozen", ["norm1", "norm*", "conv2"])
def test_a_frozen_one_computes_in_training_as_any_and_keeps_its_state(frozen):
    recipe = changed(norm_groups=2, freeze=(frozen,))
    reference = figures(1, normed(), recipe)
    assert figures(4, normed(), recipe) == reference
    if frozen == "norm*":
        untouched, _ = train(1, normed(), replace(recipe, steps=1), data=DATA)
        assert reference["state_sha256"] == untouched["state_sha256"]


@pytest.mark.parametrize(
    ("ranks", "plan"),
    [(2, "conv1=2,fc3=2"), (4, "conv1=2,conv2=2,fc3=2"), (4, "conv1=4,fc3=4"), (6, "fc3=2")],
)
@pytest.mark.parametrize("groups", [1, 4])
def test_a_plan_that_splits_the_layers_around_it_changes_no_bit(ranks, plan, groups):
    recipe = changed(norm_groups=groups, conv_feature_leaves=4)
    results = [
        train(count, normed_split(), replace(recipe, plan=its))[0]
        for count, its in ((1, "data"), (ranks, plan))
    ]
    assert results[0]["weights_sha256"] == results[1]["weights_sha256"]
    assert results[0]["state_sha256"] == results[1]["state_sha256"]


def shared(ranks: int, groups: int):
    """Return of each rank the batch normalisation that it shares, or None."""

    def rank(world):
        grid = Grid.of(Collectives(world, Tree.of(ranks, LEAVES)), 1)
        graph = set_norm_groups(normed_split(), groups, LEAVES)
        layer = share_norms(graph, grid, InlineCommThread()).nodes[1].layer
        return layer if isinstance(layer, SharedNorm) else None

    return run_ranks(ranks, rank)


@pytest.mark.parametrize(("ranks", "groups"), [(1, 1), (2, 2), (2, 8), (3, 4), (4, 4), (5, 8), (8, 8)])
def test_nothing_is_shared_while_there_are_no_more_ranks_than_groups(ranks, groups):
    assert shared(ranks, groups) == [None] * ranks


@pytest.mark.parametrize(
    ("ranks", "groups", "members"),
    [
        (2, 1, [(0, 1)]),
        (3, 1, [(0, 1, 2)]),
        (3, 2, [(0,), (1, 2)]),  # the first rank holds two blocks
        (4, 2, [(0, 1), (2, 3)]),
        (5, 1, [(0, 1, 2, 3, 4)]),
        (5, 2, [(0, 1), (2, 3, 4)]),
        (5, 4, [(0,), (1,), (2,), (3, 4)]),
        (8, 2, [(0, 1, 2, 3), (4, 5, 6, 7)]),
    ],
)
def test_ranks_share_with_those_that_hold_the_rest_of_their_group(ranks, groups, members):
    layers = shared(ranks, groups)
    for group in members:
        for rank in group:
            layer = layers[rank]
            assert tuple(range(layer.first, layer.first + layer.tree.ranks)) == group
            held = len(layer.tree.leaves_of(rank - layer.first))
            assert held * layer.block_leaves == len(Tree.of(ranks, LEAVES).leaves_of(rank))


def test_a_pass_sends_one_small_message_to_each_rank_of_the_group_that_knows_less():
    sent = []

    def on_span(name, _start, _end, about):
        sent.append((name, about["kind"], about.get("bytes", 0), about.get("priority")))

    def rank(world):
        queue = InlineCommThread(on_span=on_span if world.rank == 0 else None)
        grid = Grid.of(Collectives(world.split(0), Tree.of(2, LEAVES)), 1)
        graph = share_norms(set_norm_groups(normed_split(), 1, LEAVES), grid, queue)
        layer = graph.nodes[1].layer
        rows = layer._start(np.full((1, 2, 64), world.rank + 1.0))()
        return rows[:, 0, 0].tolist()

    assert run_ranks(2, rank) == [[1.0, 2.0]] * 2
    (job,) = {each for each in sent if each[1] == "job"}
    assert job[0] == "statistics norm1"
    assert job[3] == URGENT
    assert sum(each[2] for each in sent if each[1] != "job") == 8 * 2 * 64


def test_the_communication_of_a_step_has_its_exchanges():
    names = []

    def rank(world):
        queue = InlineCommThread(
            on_span=lambda name, _start, _end, about: names.append(name) if about["kind"] == "job" else None
        )
        collectives, recipe = Collectives(world.split(0), Tree.of(2, LEAVES)), changed(norm_groups=1)
        trainer = make_trainer(recipe, settings_of(recipe, 1), normed(), DATA, collectives, queue)
        trainer.rank.initialise(1)
        communication_alone(trainer.rank, trainer.context, world, run_seconds=0.0)

    run_ranks(2, rank)
    assert {names.count(f"statistics norm{index}") for index in (1, 2, 3, 4)} == {
        4
    }  # two passes of two ranks


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_a_norm_with_given_weights_has_the_groups_of_another(groups):
    def graph(*, given):
        net = GraphBuilder((2, 6, 6))
        net.add("conv", Conv2d(16, 3, padding=1))
        norm = BatchNorm()
        net.add("norm", Given(norm, {"weight": np.ones(16)}, trainable=True) if given else norm)
        net.add("relu", ReLU())
        net.add("pool", GlobalAvgPool())
        net.add("fc", Linear(4, gain=1.0))
        return net.graph()

    recipe = changed(norm_groups=groups)
    wanted, _ = train(1, graph(given=False), recipe)
    for ranks in (1, 2):
        found, _ = train(ranks, graph(given=True), recipe)
        assert found["weights_sha256"] == wanted["weights_sha256"]
        assert found["state_sha256"] == wanted["state_sha256"]


def test_a_wrapper_keeps_what_is_inside():
    layer = shared(2, 1)[0]
    assert norm_inside(layer) is layer.inner
    other = layer.around(BatchNorm(epsilon=0.5))
    assert (other.inner.epsilon, other.name) == (0.5, layer.name)
