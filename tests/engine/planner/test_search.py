"""The search for the best design point, on clusters where it is easily told."""

import shlex
from dataclasses import replace

import pytest

from engine.config.errors import UserError
from engine.config.recipe import FLOATS_PER_KIB, Recipe
from engine.graph.parallel.plan import Plan
from engine.models import MODELS
from engine.planner.cluster import DRAGONFLY, Channel, Network, read_cluster
from engine.planner.costs import Costs
from engine.planner.design import Design
from engine.planner.plans import plans
from engine.planner.report import command
from engine.planner.search import (
    BANDWIDTH,
    COMPUTE,
    IMBALANCE,
    LATENCY,
    assembled,
    bound,
    check_minibatch,
    default_leaves,
    gains,
    search,
    starting_point,
    starvation,
)
from engine.planner.simulation.simulator import simulate
from layers.linear import Linear
from layers.wrapped import unwrapped
from tests.engine.planner.clusters import cluster


@pytest.mark.parametrize(
    ("ranks", "batch", "leaves", "message"),
    [
        (
            8,
            4,
            8,
            r"^batch: 4 samples are too few for 8 ranks, each of which must have one; use at most 4 ranks",
        ),
        (8, 100, 16, r"^batch: 100 does not divide into 16 leaves, for 8 ranks; use 96 or 112 samples$"),
        (1, 8, 16, r"^batch: 8 does not divide into 16 leaves, for 1 rank; use 16 samples$"),
        (8, 64, 4, r"^leaves: got 4; must be a power of two and at least 8, one for each rank$"),
        (2, 60, 12, r"^leaves: got 12; must be a power of two"),
    ],
)
def test_a_minibatch_that_does_not_suit_the_ranks_is_refused(ranks, batch, leaves, message):
    with pytest.raises(UserError, match=message):
        check_minibatch(ranks, batch, leaves)


def test_leaves_suit_the_ranks():
    assert [default_leaves(ranks) for ranks in (1, 16, 17, 128, 200)] == [16, 16, 32, 128, 256]
    check_minibatch(128, 512, 128)


def test_the_best_plan_is_the_best_of_all():
    where = read_cluster("aws_c4_8xlarge")
    design = starting_point("cd_dnn", 4, 64, where)
    points = search(design, where, thorough=False)
    every = [
        simulate(replace(design, plan=plan), where).step_seconds for plan in plans(MODELS["cd_dnn"](), 4, 64)
    ]
    assert points[0].step_seconds == min(every)
    assert [point.step_seconds for point in points] == sorted(point.step_seconds for point in points)
    assert Plan() in [point.design.plan for point in points]


def test_schedule_and_fusion_are_searched_and_small_gains_left_alone():
    where = read_cluster("aws_c4_8xlarge")
    design = starting_point("vgg_a", 16, 256, where)
    best, *others = points = search(design, where)
    assert {point.design.prioritised for point in points} == {True, False}
    assert len({point.design.chunk_floats for point in points}) == 3
    assert len({point.design.bucket_floats for point in points}) == 3
    assert {point.design.threads for point in points} == {17, 18}
    unasked = [
        point
        for point in points
        if point.design == replace(design, plan=point.design.plan) and point.design.plan == best.design.plan
    ]
    if best.design != unasked[0].design:
        assert best.step_seconds <= 0.99 * unasked[0].step_seconds
    assert best.step_seconds <= min(other.step_seconds for other in others) * 1.011
    first_come = next(point for point in points if not point.design.prioritised)
    assert first_come.step_seconds > unasked[0].step_seconds


def test_the_same_search_finds_the_same():
    where = read_cluster("epyc_hdr")
    design = starting_point("digits", 4, 64, where)
    once, again = search(design, where), search(design, where)
    assert [(point.design, point.step_seconds) for point in once] == [
        (point.design, point.step_seconds) for point in again
    ]


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        (Channel(0.0, 1e30), COMPUTE),
        (Channel(0.0, 1e6), BANDWIDTH),
        (Channel(10.0, 1e30), LATENCY),
    ],
)
def test_what_bounds_a_step_is_found(channel, expected):
    where = cluster(network=channel)
    (point,) = search(starting_point("digits", 4, 64, where), where, allowed=[Plan()], thorough=False)
    gained = gains(point, where)
    assert bound(point, gained) == expected
    assert gained[expected] == pytest.approx(0.5, rel=0.05)


def test_ranks_that_are_no_power_of_two_are_bound_by_imbalance():
    where = cluster()
    (point,) = search(starting_point("digits", 3, 64, where), where, allowed=[Plan()], thorough=False)
    assert bound(point, gains(point, where)) == IMBALANCE


def test_one_rank_is_bound_by_nothing_but_its_machine():
    where = cluster()
    (point,) = search(starting_point("digits", 1, 64, where), where)
    assert gains(point, where) == {COMPUTE: pytest.approx(0.5, rel=0.01)}


def test_many_uneven_ranks_take_as_long_as_the_next_lower_power_of_two():
    where = read_cluster("aws_c4_8xlarge")
    uneven, even = (
        search(starting_point("digits", nodes, 128, where, leaves=128), where, thorough=False)[0]
        for nodes in (100, 64)
    )
    assert uneven.design.ranks == 100
    assert uneven.step_seconds == even.step_seconds
    assert bound(uneven, {COMPUTE: 0.4, BANDWIDTH: 0.1}) == IMBALANCE


def test_groups_of_machines_that_are_no_power_of_two_cost_no_more_time_to_simulate():
    where = replace(cluster(), network=Network(Channel(1e-6, 1e10), DRAGONFLY, group_machines=384))
    (point,) = search(starting_point("digits", 512, 512, where), where, allowed=[Plan()], thorough=False)
    assert len(point.prediction.ranks) == 1, "one stands for all"


def test_few_samples_starve_the_kernels():
    where = read_cluster("cori_phase1")
    single, some, few = (
        search(starting_point("cd_dnn", nodes, 64, where), where, thorough=False)[0] for nodes in (1, 2, 64)
    )
    assert starvation(single, single) == 1.0
    assert starvation(some, single) < 1.25
    assert starvation(few, single) > 2.0, "all weights are read for one sample"


def test_a_recipe_has_the_sizes_of_messages_that_a_design_has_unasked():
    design = starting_point("digits", 2, 64, cluster())
    assert Recipe().chunk_kib * FLOATS_PER_KIB == design.chunk_floats
    assert Recipe().bucket_kib * FLOATS_PER_KIB == design.bucket_floats


def test_plans_are_chosen_and_steps_simulated_for_the_layers_of_a_precision(monkeypatch):
    asked = set()
    passes = Costs.passes

    def noted(costs, layer, *rest):
        if isinstance(found := unwrapped(layer), Linear):
            asked.add(found.precision)
        return passes(costs, layer, *rest)

    monkeypatch.setattr(Costs, "passes", noted)
    design = replace(starting_point("digits", 2, 64, cluster()), precision="bf16")
    search(design, cluster(), thorough=False)
    assert asked == {"bf16"}
    nodes = assembled(design).nodes
    assert {node.layer.precision for node in nodes if isinstance(node.layer, Linear)} == {"bf16"}


def test_the_command_of_a_network_of_ones_own_names_its_file_and_arguments():
    design = Design(
        "my net.py:f",
        4,
        64,
        16,
        Plan(),
        2,
        model_arguments=(("width", 8), ("name", "a b"), ("image", [1, 8, 8])),
    )
    words = shlex.split(command(design, 1))
    assert words[: words.index("--batch")] == [
        "mpirun", "-n", "4", "--bind-to", "none", "python", "-m", "engine.train", "--model", "my net.py:f",
        "--model-argument", "width=8", "--model-argument", "name=a b", "--model-argument", "image=[1, 8, 8]",
        "--data", "synthetic",
    ]  # fmt: skip
