"""Measuring the machines at hand."""

import pytest

from comm.threads import run_ranks, single_rank
from engine.graph.parallel.plan import Plan
from engine.models import MODELS
from engine.planner.cluster import parse_cluster
from engine.planner.costs import Costs
from engine.planner.design import Design
from engine.planner.measurement import measure as measuring
from engine.planner.measurement import pings
from engine.planner.measurement.measure import Seats, measure
from engine.planner.measurement.rehearsal import Rehearsal
from layers.linear import Linear
from layers.work import PASSES

SPLIT = Design("digits", ranks=4, batch=16, leaves=4, plan=Plan({"fc4": 2}), threads=1)


@pytest.fixture(autouse=True)
def little(monkeypatch):
    for name, value in (("_PINGS", 8), ("_ROUNDS", 64), ("_BURST", 16), ("_LATE_S", 0.01)):
        monkeypatch.setattr(pings, name, value)
    monkeypatch.setattr(measuring, "_LARGE", 1 << 19)
    monkeypatch.setattr(measuring, "_QUIET_S", 1e-4)


def test_all_ranks_return_the_same_cluster_and_it_can_be_written_down():
    one, other = run_ranks(2, lambda world: measure(world, [SPLIT], name="here", seconds=0.0))
    assert one == other
    assert parse_cluster(one.to_toml(), "here") == one
    assert (one.machines, one.machine.ranks, one.machine.hosts) == (1, 2, 1)
    assert one.shared_memory == one.network.channel  # there is no other


def test_every_layer_of_the_design_is_measured_as_the_planner_asks_for_it():
    cluster = measure(single_rank(), [SPLIT], name="here", seconds=0.0)
    costs = Costs(cluster, threads=1)
    rows = {(kernel.layer, kernel.samples): kernel for kernel in cluster.kernels}
    for rank in range(SPLIT.ranks):
        assert {(text, samples) for text, samples, _ in Rehearsal(SPLIT, rank).problems()} <= set(rows)
    graph = MODELS["digits"]()
    shard = Linear(128).shard(2)[0]
    for layer, inputs, samples in ((shard, ((256,),), 8), (Linear(10), ((128,),), 4)):
        found = costs.passes(layer, inputs, samples)
        assert (found.forward, found.backward_weights, found.backward_data) in {
            tuple(getattr(row, name) for name in PASSES) for row in rows.values() if row.samples == samples
        }
        assert min(vars(found).values()) > 0
    assert costs.load(4, graph.input_shape) > 0
    assert costs.loss(4, 10) > 0


def test_the_first_layer_has_no_gradient_of_its_input():
    cluster = measure(single_rank(), [SPLIT], name="here", seconds=0.0)
    first = [kernel for kernel in cluster.kernels if kernel.layer.endswith("of [1, 8, 8]")]
    convolutions = [kernel for kernel in first if kernel.layer.startswith("Conv2d")]
    assert [kernel.backward_data for kernel in convolutions] == [0]
    assert all(kernel.forward > 0 and kernel.backward_weights > 0 for kernel in convolutions)


def test_a_rank_measures_only_what_no_other_has_measured(monkeypatch):
    taken = []
    original = Rehearsal.measure

    def note(self, *, seconds):
        taken.append(self)
        return original(self, seconds=seconds)

    monkeypatch.setattr(Rehearsal, "measure", note)
    whole = Design("digits", ranks=4, batch=16, leaves=4, plan=Plan(), threads=64)  # one rank a turn
    run_ranks(4, lambda world: measure(world, [whole], name="here", seconds=0.0))
    assert len(taken) == 1


NAMESPACES = Seats(machines=("m",) * 4, hosts=("a", "a", "b", "b"), cores=2)
TWO_MACHINES = Seats(machines=("m", "m", "n", "n", "n"), hosts=("a", "a", "b", "b", "b"), cores=8)


def test_hosts_of_one_machine_are_counted():
    assert (NAMESPACES.hosts_per_machine, NAMESPACES.ranks_per_host) == (2, 2)
    assert (TWO_MACHINES.hosts_per_machine, TWO_MACHINES.ranks_per_host) == (1, 3)


def test_no_more_ranks_measure_at_once_than_there_are_cores():
    assert [NAMESPACES.turn(rank, 1) for rank in range(4)] == [0, 0, 1, 1]
    assert [NAMESPACES.turn(rank, 2) for rank in range(4)] == [0, 1, 2, 3]
    assert [NAMESPACES.turn(rank, 16) for rank in range(4)] == [0, 1, 2, 3]
    assert [TWO_MACHINES.turn(rank, 4) for rank in range(5)] == [0, 0, 0, 0, 1]
    assert list(TWO_MACHINES.turns(4)) == [0, 1]


def test_pairs_are_near_or_far():
    assert (NAMESPACES.pair(near=True), NAMESPACES.pair(near=False)) == ((0, 1), (0, 2))
    assert Seats(("m",) * 2, ("a", "b"), 2).pair(near=True) is None
    assert Seats(("m",), ("a",), 2).pair(near=False) is None
