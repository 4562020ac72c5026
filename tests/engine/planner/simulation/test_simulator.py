"""A step in simulation: nothing is lost, nothing comes from nowhere, and it is the engine's schedule."""

from dataclasses import replace
from functools import partial

import pytest

from engine.config.errors import UserError
from engine.graph.parallel.plan import Plan
from engine.models import MODELS
from engine.planner.balance import data_parallel, hybrid, inside_group
from engine.planner.cluster import FAT_TREE, Channel, Network
from engine.planner.costs import Costs
from engine.planner.design import Design
from engine.planner.simulation.simulator import simulate
from engine.profile.recorder import COMPUTE, PASS
from engine.training.parameters import padded_floats
from layers.work import Extents
from tests.engine.graphs import normed
from tests.engine.planner.clusters import cluster

GIGABIT = Channel(latency_s=50e-6, bytes_per_s=118e6, message_s=20e-6, processor_s_per_byte=0.3e-9)
LOSS_BYTES = 4 * 8  # of a leaf


def design(model="vgg_a", ranks=4, *, batch=64, plan="data", **changes):
    return Design(model, ranks, batch, max(16, ranks), Plan.parse(plan), threads=1, **changes)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("model", ["digits", "overfeat_fast"])
def test_data_parallel_ranks_send_the_bytes_of_the_equations(model, ranks):
    point, graph = design(model, ranks, batch=48 if ranks % 3 == 0 else 64), MODELS[model]()
    sent = simulate(point, cluster()).bytes_sent_per_rank
    held = sum(padded_floats(node.layer.parameters(*graph.input_shapes(node))) for node in graph)
    assert held == pytest.approx(graph.parameter_count(), rel=0.1), "whole cache lines"
    if ranks & (ranks - 1) == 0:
        all_of_it = data_parallel(Extents(1, held)) + LOSS_BYTES * point.leaves
        assert sent == pytest.approx((ranks - 1) / ranks * all_of_it, rel=2e-3)
    else:  # a rank with two blocks of leaves exchanges for both
        assert 8 * held * (ranks - 1) / ranks < sent < 2 * 8 * held


@pytest.mark.parametrize(("ranks", "parts"), [(2, 2), (4, 2), (4, 4), (8, 2)])
def test_a_split_layer_exchanges_the_bytes_of_the_equations(ranks, parts):
    inputs, outputs, batch, groups = 25088, 4096, 64, ranks // parts
    whole = simulate(design(ranks=ranks, batch=batch), cluster()).bytes_sent_per_rank
    split = simulate(design(ranks=ranks, batch=batch, plan=f"fc6={parts}"), cluster()).bytes_sent_per_rank
    layer, outgoing = Extents(inputs, outputs), Extents(outputs, 1)
    alone = data_parallel(layer) * (ranks - 1) / ranks
    # Of what the equations count, a part that is a rank's own does not travel.
    inside = inside_group(layer, batch, ranks, groups) * (parts - 1) / parts
    between = (
        (hybrid(layer, batch, ranks, groups) - inside_group(layer, batch, ranks, groups))
        * (groups - 1)
        / groups
    )
    back_to_samples = inside_group(outgoing, batch, ranks, groups) * (parts - 1) / parts**2
    assert whole - split == pytest.approx(alone - between - inside - back_to_samples, rel=2e-3)


@pytest.mark.parametrize(("plan", "members"), [("data", 1), ("fc4=2", 2)])
def test_microbatches_send_the_same_bytes_and_compute_the_same_and_add(plan, members, monkeypatch):
    monkeypatch.setattr(Costs, "add", lambda _, floats: 1e-3 * floats)
    whole, cut = (simulate(design("digits", 2, plan=plan, accumulate=each), cluster()) for each in (1, 4))
    assert cut.bytes_sent_per_rank == pytest.approx(whole.bytes_sent_per_rank, rel=1e-3)  # cache lines
    added, graph = 0, MODELS["digits"]()
    for node in graph:
        floats = padded_floats(node.layer.parameters(*graph.input_shapes(node)))
        if node.name == "fc4" and members > 1:  # of each member's samples, and then of both
            floats, sums = floats // 2, 2 * 3 + 1
        else:
            sums = 3
        added += sums * floats
    more = cut.compute_seconds - whole.compute_seconds
    assert more == pytest.approx(1e-3 * added, rel=1e-3)  # a thousand additions take longer than all passes


@pytest.mark.parametrize("ranks", [2, 8, 64])
def test_on_a_network_that_costs_nothing_the_speed_up_is_the_number_of_ranks(ranks):
    one, many = (simulate(design(ranks=count, batch=64), cluster(cores=1)) for count in (1, ranks))
    assert one.step_seconds / many.step_seconds == pytest.approx(ranks, rel=1e-6)
    assert many.breakdown.exposed_communication_seconds == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("plan", ["data", "fc6=2,fc7=2"])
def test_with_nothing_to_compute_a_step_takes_what_its_communication_takes(plan):
    point = design(ranks=4, plan=plan)
    done = simulate(point, cluster(flops_per_s=1e30, network=GIGABIT))
    assert done.step_seconds == pytest.approx(done.communication_alone_seconds, rel=0.01)
    assert done.step_seconds > done.bytes_sent_per_rank / GIGABIT.bytes_per_s
    assert done.step_seconds < 1.15 * done.bytes_sent_per_rank / GIGABIT.bytes_per_s


@pytest.mark.parametrize("plan", ["data", "fc6=2,fc7=2,fc8=2"])
@pytest.mark.parametrize("machines", [{}, {"ranks": 2}, {"hosts": 2, "cores": 2}])
def test_one_rank_that_stands_for_all_takes_the_time_of_all(plan, machines):
    point, place = design(ranks=4, plan=plan), cluster(network=GIGABIT, poll_s=1e-4, **machines)
    symmetric = simulate(point, place)
    each = simulate(point, place, noise=1e-15)
    assert (len(symmetric.ranks), len(each.ranks)) == (1, 4)
    assert symmetric.step_seconds == pytest.approx(each.step_seconds, rel=0.03)
    assert symmetric.bytes_sent_per_rank == each.bytes_sent_per_rank
    assert symmetric.communication_alone_seconds == pytest.approx(each.communication_alone_seconds, rel=0.03)


def test_a_simulation_is_deterministic():
    point, place = design("cifar10", ranks=3, batch=48), cluster(network=GIGABIT)
    once, again = simulate(point, place), simulate(point, place)
    assert once == again
    assert once.breakdown == again.breakdown, "with communication alone"
    noisy = [simulate(point, place, noise=0.1, seed=seed).step_seconds for seed in (1, 1, 2)]
    assert noisy[0] == noisy[1] != noisy[2]
    assert noisy[0] > simulate(point, place).step_seconds


def test_overlap_and_priorities_help_where_communication_takes_as_long_as_compute():
    place = cluster(flops_per_s=1e12, cores=4, network=GIGABIT)
    best, first_come, off = (
        simulate(replace(design(ranks=2, batch=32), prioritised=prioritised, overlap=overlap), place)
        for prioritised, overlap in ((True, True), (False, True), (True, False))
    )
    assert best.step_seconds < 0.98 * first_come.step_seconds < 0.98 * off.step_seconds
    bound = max(best.compute_seconds, best.communication_alone_seconds)
    assert bound <= best.step_seconds < 1.3 * bound
    assert off.step_seconds == pytest.approx(off.compute_seconds + off.communication_alone_seconds, rel=0.02)


def test_a_communication_thread_without_a_core_of_its_own_slows_the_kernels_down():
    dear = replace(GIGABIT, processor_s_per_byte=3e-9)
    alone, beside = (
        simulate(design(ranks=2), cluster(flops_per_s=cores * 4e11, network=dear, cores=cores))
        for cores in (2, 1)
    )
    assert beside.compute_seconds == pytest.approx(alone.compute_seconds)
    assert beside.step_seconds > 1.05 * alone.step_seconds


def test_the_spans_are_those_of_a_step():
    done = simulate(design("digits", 2), cluster(network=GIGABIT))
    passes = {span.name for span in done.ranks[0] if span.row == COMPUTE and PASS in span.attributes}
    graph = MODELS["digits"]()
    assert {
        f"{node.name} backward_weights" for node in graph if node.layer.parameters(*graph.input_shapes(node))
    } <= {*passes}
    table = done.breakdown
    computing = table.forward_seconds + table.backward_weights_seconds + table.backward_data_seconds
    rest = table.update_seconds + table.exposed_communication_seconds + table.rest_seconds
    assert computing + rest == pytest.approx(done.step_seconds)
    assert table.rest_seconds == pytest.approx(0.0, abs=1e-3 * done.step_seconds)


def test_groups_of_machines_with_few_links_between_them_take_longer():
    network = Network(GIGABIT, FAT_TREE, group_machines=2, oversubscription=4.0)
    tight = replace(cluster(flops_per_s=1e30), network=network)
    times = [
        simulate(design(ranks=4), place).step_seconds
        for place in (cluster(flops_per_s=1e30, network=GIGABIT), tight)
    ]
    assert times[1] > 1.5 * times[0]


def test_a_plan_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match="fc9"):
        simulate(design(plan="fc9=2"), cluster())
    with pytest.raises(ValueError, match="leaves"):
        simulate(Design("vgg_a", 32, 64, 16, Plan(), threads=1), cluster())


@pytest.mark.parametrize(("ranks", "batch", "sharing"), [(2, 64, 1), (4, 64, 2), (4, 48, 4), (3, 48, 3)])
def test_ranks_that_share_a_batch_normalisation_wait_for_each_others_rows(ranks, batch, sharing, monkeypatch):
    """There are 2 groups of 64 samples, and 1 of 48."""
    monkeypatch.setitem(MODELS, "normed", normed)
    monkeypatch.setitem(MODELS, "apart", partial(normed, groups=16))
    together, apart = (
        simulate(design(model, ranks, batch=batch), cluster(network=GIGABIT)) for model in ("normed", "apart")
    )
    channels = 3 * 32 + 16  # of four layers, in whole vectors
    rows = 2 * 2 * 8 * channels * (sharing - 1)  # of two passes, two sums each, of all ranks but the own
    sent = together.bytes_sent_per_rank - apart.bytes_sent_per_rank
    assert sent == pytest.approx(rows, rel=0 if ranks & (ranks - 1) == 0 else 0.5)
    if sharing > 1:  # two messages a layer, one after the other, which nothing hides
        assert together.step_seconds - apart.step_seconds > 8 * GIGABIT.latency_s
