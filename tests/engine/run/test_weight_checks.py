"""Hashes in the middle of a run, and copies of weights that are not what they should be."""

import json
import socket

import numpy as np
import pytest

from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.grid import Grid
from comm.threads import run_ranks
from comm.tree import Tree
from engine.config.recipe import OptimizerFields
from engine.graph import Graph, GraphBuilder
from engine.graph.parallel.plan import Plan
from engine.run import weight_checks
from engine.run.failures import RunEndedError
from engine.run.weight_checks import check_copies
from engine.training.rank import build_rank
from engine.training.rank_settings import RankSettings
from layers.batch_norm import BatchNorm
from layers.linear import Linear
from layers.relu import ReLU
from tests.engine.cluster import RECIPE, changed, train

HOST = socket.gethostname()


def network() -> Graph:
    net = GraphBuilder((6,))
    net.add("fc1", Linear(64))
    net.add("norm1", BatchNorm())
    net.add("relu1", ReLU())
    net.add("fc2", Linear(4, gain=1.0))
    return net.graph()


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("fields", [{}, {"ema": 0.9, "optimizer": OptimizerFields("adamw")}])
def test_hashes_in_the_metrics_are_those_of_runs_that_end_there(tmp_path, ranks, fields):
    recipe = changed(RECIPE, steps=5, hash_every=2, verify_every=1, **fields)
    results, _ = train(ranks, network(), recipe, folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    noted = {line["step"]: line for line in lines if "weights_sha256" in line}
    assert sorted(noted) == [2, 4]
    for step, line in noted.items():
        ended, _ = train(1, network(), changed(recipe, steps=step, hash_every=0, verify_every=0))
        assert (line["weights_sha256"], line["state_sha256"]) == (
            ended["weights_sha256"],
            ended["state_sha256"],
        )
    plain, _ = train(1, network(), changed(recipe, hash_every=0, verify_every=0))
    assert results["weights_sha256"] == plain["weights_sha256"]


def test_copies_are_compared_every_so_many_steps(monkeypatch):
    seen = []
    monkeypatch.setattr(weight_checks, "check_copies", lambda *given: seen.append((given[2], given[3]())))
    train(1, network(), changed(RECIPE, steps=7, verify_every=3))
    assert seen == [(3, 0), (6, 0)]


def compared(ranks: int, plan: str, damage) -> set[str]:
    """Return what each rank says after `damage(number, rank)`."""

    def work(world):
        planned, queue = Plan.parse(plan), InlineCommThread()
        grid = Grid.of(Collectives(world, Tree.of(ranks, 8)), planned.parts)
        rank = build_rank(network(), RankSettings(batch=16, threads=1), planned, grid, queue)
        rank.initialise(1)
        damage(world.rank, rank)
        try:
            check_copies(rank, world, 7, saved=lambda: 4)
        except RunEndedError as error:
            return str(error)
        return ""

    return set(run_ranks(ranks, work))


def flip_a_bit(array: np.ndarray) -> None:
    array.view(np.uint32).reshape(-1)[5] ^= 1


@pytest.mark.parametrize(("ranks", "plan"), [(1, "data"), (2, "data"), (3, "data"), (4, "fc1=2")])
def test_what_is_the_same_is_not_complained_of(ranks, plan):
    assert compared(ranks, plan, lambda *_: None) == {""}


def test_of_several_ranks_the_one_that_differs_is_named():
    def damage(number, rank):
        if number == 2:
            flip_a_bit(rank.parameters["fc2"].weights["bias"])

    assert compared(3, "data", damage) == {
        f"step 7: fc2.bias has changed in the memory of rank 2 on {HOST}: have the memory tested, and "
        "--resume without it; the checkpoint of step 4 is older"
    }


def test_of_two_ranks_nobody_knows_which_one_is_wrong():
    def damage(number, rank):
        if number == 1:
            flip_a_bit(rank.states.state("norm1")["running_mean"])

    (said,) = compared(2, "data", damage)
    assert said.startswith(f"step 7: norm1.running_mean is not the same on ranks 0 on {HOST}, 1 on {HOST}: ")


def test_under_a_plan_the_holders_of_one_part_are_compared():
    def damage(number, rank):
        if number == 2:
            flip_a_bit(rank.parameters["fc1"].weights["weight"])

    (said,) = compared(4, "fc1=2", damage)
    assert said.startswith(f"step 7: fc1.weight is not the same on ranks 0 on {HOST}, 2 on {HOST}: ")
