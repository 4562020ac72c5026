"""What the ranks of a node hold, beside what it has."""

from dataclasses import replace

import pytest

from comm.tree import Tree
from engine.graph.parallel.plan import Plan
from engine.planner.design import Design
from engine.planner.memory import memory_of
from engine.training.planned_memory import planned_memory
from tests.engine.planner.clusters import cluster


def design(ranks=2, **changes):
    return Design("digits", ranks, 48, 16, Plan.parse(changes.pop("plan", "data")), threads=1, **changes)


def with_memory(count, **given):
    made = cluster(**given)
    return replace(made, machine=replace(made.machine, memory_bytes=count))


@pytest.mark.parametrize(("ranks", "plan", "accumulate"), [(1, "data", 1), (2, "fc4=2", 2), (3, "data", 4)])
def test_a_rank_holds_what_the_engine_plans_and_the_samples_that_are_read_ahead(ranks, plan, accumulate):
    point = design(ranks, plan=plan, accumulate=accumulate)
    found = memory_of(point, cluster())
    planned = planned_memory(point.network(), point.rank_settings(), point.plan, Tree.of(ranks, 16), 0)
    share = {1: 48, 2: 24, 3: 24}[ranks]  # of three ranks the first has two blocks of leaves
    assert found.minibatches == 3 * share // accumulate * 64 * 4
    assert found.rank_bytes == planned.parameters + planned.values + found.minibatches
    assert found.warning() is None


def test_layers_of_bf16_count_their_working_memory():
    plain, found = (memory_of(design(precision=each), cluster()) for each in ("fp32", "bf16"))
    assert plain.working == 0
    assert found.working == found.planned.working > 0
    assert found.rank_bytes == plain.rank_bytes + found.working
    assert "working memory" in found.line()
    assert "working memory" not in plain.line()


def test_ranks_of_a_node_share_its_memory():
    each = memory_of(design(), cluster(ranks=2)).rank_bytes
    assert memory_of(design(), with_memory(2 * each, ranks=2)).fits
    assert not memory_of(design(), with_memory(2 * each - 1, ranks=2)).fits
    assert memory_of(design(), with_memory(each, ranks=1)).fits


def test_the_fewest_microbatches_that_fit_are_named_and_no_others():
    cut = memory_of(design(accumulate=4), cluster()).rank_bytes
    found = memory_of(design(), with_memory(cut))
    assert found.fitting in (2, 4)
    assert found.warning().endswith(f": --accumulate {found.fitting} fits")
    assert memory_of(design(accumulate=found.fitting), with_memory(cut)).fits
    hopeless = memory_of(design(), with_memory(1000))
    assert hopeless.fitting is None
    assert hopeless.warning().endswith(": use more nodes, or a smaller --batch")
