"""A rank as it is built: its weights, its size under a plan, and what a caller may replace."""

from dataclasses import replace

import numpy as np
import pytest

from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.grid import Grid
from comm.threads import run_ranks, single_rank
from comm.tree import Tree
from engine.data.loader import Batch
from engine.graph.parallel.plan import Plan
from engine.training.rank import Rank, build_rank
from engine.training.rank_parameters import RankParameters
from engine.training.rank_settings import RankSettings
from layers.kernels.threads import Threads
from layers.layer import Context
from tests.engine.graphs import perceptron, wide

SETTINGS = RankSettings(8, 1)


def single(settings: RankSettings = SETTINGS, **replaced) -> Rank:
    grid = Grid.of(Collectives(single_rank(), Tree.of(1, 4)), 1)
    return build_rank(perceptron(), settings, Plan(), grid, InlineCommThread(), **replaced)


def test_initial_weights_do_not_depend_on_the_number_of_threads():
    hashes = set()
    for threads in (1, 3):
        rank = single(replace(SETTINGS, threads=threads))
        rank.initialise(5)
        hashes.add(rank.parameters.weights_sha256())
    other = single()
    other.initialise(6)
    assert len(hashes) == 1
    assert other.parameters.weights_sha256() not in hashes


def test_an_error_while_weights_are_drawn_is_raised(monkeypatch):
    tasks = [lambda: None, lambda: 1 / 0]
    monkeypatch.setattr(RankParameters, "initialisation_tasks", lambda *_: tasks)
    with pytest.raises(ZeroDivisionError):
        single().initialise(1)


def test_parameters_are_counted_for_the_whole_network_under_any_plan():
    def count(world):
        plan = Plan.parse("fc1=2,fc2=2")
        grid = Grid.of(Collectives(world, Tree.of(2, 4)), 2)
        rank = build_rank(wide(), SETTINGS, plan, grid, InlineCommThread())
        return rank.parameter_count, rank.parameters.parameter_bytes

    split = run_ranks(2, count)
    assert {parameters for parameters, _ in split} == {wide().parameter_count()}
    assert single().parameter_count == 12 * 20 + 20 + 20 * 17 + 17 + 17 * 5 + 5
    assert max(held for _, held in split) < 4 * 3 * wide().parameter_count()


def test_a_loss_function_and_a_way_in_of_ones_own_are_used():
    class Constant:
        def forward_backward(self, threads, logits, labels, classes, scale, gradient, losses, correct, *_):
            losses[...], correct[...], gradient[...] = 2.0, 1, scale

    def doubled(_, x, blocked):
        blocked[:, :12] = 2 * x

    rank = single(criterion=Constant(), copy_in=doubled)
    batch = Batch(np.ones((8, 12), np.float32), np.zeros(8, np.int32), np.arange(8), 0)
    rank.memory.load(batch, Threads(1))
    assert (rank.memory.input[:, :12] == 2).all()
    rank.loss.backward(rank.memory, batch, Context(Threads(1)))
    rank.loss.submit(stop=False)
    outcome = rank.loss.wait()
    assert (outcome.loss, outcome.correct) == (16.0, 8)
    assert (rank.memory.output_gradient == np.float32(1 / 8)).all()
