"""What buddies keep is enough: the ranks that are left have the tensors of a checkpoint, to the bit."""

from dataclasses import replace

import numpy as np
import pytest

from comm.collectives import Collectives
from comm.comm_thread import CommThread, InlineCommThread
from comm.threads import run_ranks, single_rank
from comm.tree import Tree
from engine.config.recipe import OptimizerFields
from engine.data.dataset import DataSource
from engine.graph import GraphBuilder
from engine.run.session import run_session
from engine.training.buddies import buddy_distances
from engine.training.held import Copy, made
from engine.training.rank_settings import settings_of
from layers.batch_norm import BatchNorm
from layers.linear import Linear
from layers.relu import ReLU
from tests.engine.cluster import RECIPE, Samples, changed, make_trainer

RECIPE = changed(RECIPE, steps=5, buddy_every=1)


def network():
    net = GraphBuilder((6,))
    net.add("fc1", Linear(64))
    net.add("relu1", ReLU())
    net.add("fc2", Linear(16))
    net.add("norm2", BatchNorm())
    net.add("fc3", Linear(4, gain=1.0))
    return net.graph()


def trained(world, recipe, buddies, queue=None):
    """Return one rank's trainer after all steps, its queue closed."""
    graph = network()
    data = DataSource(Samples.draw(graph.input_shape, graph.output_shape[0], 64), None)
    queue = queue or CommThread()
    collectives = Collectives(world.split(0), Tree.of(world.size, recipe.leaves), chunk_floats=100)
    settings = replace(settings_of(recipe, 1), buddies=buddies, bucket_floats=500)
    trainer = make_trainer(recipe, settings, graph, data, collectives, queue, control=world)
    trainer.rank.initialise(recipe.seed)
    run_session(trainer)
    if trainer.rank.buddies is not None:
        trainer.rank.buddies.wait()
    queue.close()
    return trainer


def checkpoint(recipe):
    """Return the tensors of a checkpoint after all steps, from one rank."""
    trainer = trained(single_rank(), recipe, 0, InlineCommThread())
    rank, copy = trainer.rank, Copy(keep=True)
    tensors = rank.parameters.copy_moments(copy) | rank.parameters.copy_trained(copy)
    with rank.averaged():
        tensors |= {name: made(tensor).copy() for name, tensor in rank.parameters.copy_weights(copy).items()}
    averages, state = rank.states.saved()
    return {name: made(tensor) for name, tensor in tensors.items()} | averages | state


def left(ranks, alive, recipe, buddies=1, ranks_per_host=1):
    """Return what each of the ranks that are left recovers."""

    def work(world):
        trainer = trained(world, recipe, buddies)
        survivors = world.split(world.rank in alive)
        return trainer.rank.buddies.recovered(survivors) if world.rank in alive else "dead"

    return [each for each in run_ranks(ranks, work, ranks_per_host=ranks_per_host) if each != "dead"]


@pytest.mark.parametrize(
    ("ranks", "alive", "buddies"),
    [
        (2, {0}, 1),
        (2, {1}, 1),
        (3, {0, 2}, 1),
        (4, {1, 3}, 1),
        (6, {0, 2, 3, 5}, 1),
        (4, {2}, 3),
        (5, {0, 3}, 2),
    ],
)
@pytest.mark.parametrize("ranks_per_host", [1, 2, 6])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"plan": "fc1=2"},
        {"ema": 0.9, "optimizer": OptimizerFields("adamw"), "freeze": ("fc2",)},
        {"optimizer": OptimizerFields("lamb", clip_norm=0.5), "plan": "fc1=2", "ema": 0.9},
    ],
)
def test_the_ranks_that_are_left_have_the_tensors_of_a_checkpoint(
    ranks, alive, buddies, fields, ranks_per_host
):
    if "plan" in fields and ranks % 2:
        pytest.skip("no pairs of ranks")
    recipe = changed(RECIPE, **fields)
    wanted = checkpoint(changed(recipe, plan="data"))
    found = left(ranks, alive, recipe, buddies, ranks_per_host)
    assert len(found) == len(alive)
    for each in found:
        assert each.step == RECIPE.steps
        assert each.progress.record["step"] == RECIPE.steps
        assert each.tensors.keys() == wanted.keys()
        for name, tensor in wanted.items():
            np.testing.assert_array_equal(made(each.tensors[name]), tensor, err_msg=name)


@pytest.mark.parametrize(("ranks", "alive"), [(3, {0}), (4, {0, 1})])
def test_a_rank_that_is_lost_with_its_buddy_is_lost(ranks, alive):
    assert left(ranks, alive, RECIPE) == [None] * len(alive)


def test_split_weights_that_are_not_trained_are_on_no_buddy():
    recipe = changed(RECIPE, plan="fc1=2", freeze=("fc1",))
    assert left(2, {0}, recipe) == [None]


def test_copies_are_made_as_often_as_the_recipe_says():
    (found,) = left(2, {1}, changed(RECIPE, buddy_every=3))
    assert found.step == 3


def test_copies_take_twice_what_a_rank_and_its_wards_on_other_hosts_have_alone():
    def work(world):
        trainer = trained(world, RECIPE, 1)
        return trainer.rank.buddies.bytes, trainer.rank.parameters.shared_floats(world.rank)

    for held, own in run_ranks(2, work):
        assert held == 2 * 2 * 4 * own
    for held, own in run_ranks(2, work, ranks_per_host=2):  # which read each other's
        assert held == 2 * 4 * own


@pytest.mark.parametrize(
    ("hosts", "count", "wanted"),
    [
        (["a"], 1, []),
        (["a", "a"], 1, [1]),
        (["a", "a", "b", "b"], 1, [2]),
        (["a", "a", "b", "b"], 3, [2, 1, 3]),
        (["a", "b", "a", "b"], 1, [1]),
        (["a", "a", "a", "b"], 2, [1, 2]),
    ],
)
def test_buddies_are_on_another_host_where_there_is_one(hosts, count, wanted):
    assert buddy_distances(hosts, count) == wanted
