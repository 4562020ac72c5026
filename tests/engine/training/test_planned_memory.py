"""What a rank will need is counted before it allocates."""

import pytest

from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.grid import Grid
from comm.threads import run_ranks
from comm.tree import Tree
from engine.config.recipe import OptimizerFields, Recipe
from engine.graph.parallel.plan import Plan
from engine.host.aligned_arrays import held_bytes
from engine.models import build_model
from engine.training.planned_memory import PlannedMemory, planned_memory
from engine.training.rank import build_rank
from engine.training.rank_settings import RankSettings, settings_of
from layers.products import Unit


@pytest.mark.parametrize(
    ("precision", "unit"), [("fp32", Unit.REGISTERS), ("bf16", Unit.REGISTERS), ("bf16", Unit.HARDWARE)]
)
@pytest.mark.parametrize(("ranks", "plan"), [(1, "data"), (3, "data"), (4, "fc4=2")])
def test_the_plan_is_what_a_rank_holds(ranks, plan, precision, unit):
    network, tree = build_model("digits", {}), Tree.of(ranks, 16)
    settings = RankSettings(64, 2, precision=precision, unit=unit)
    parsed = Plan.parse(plan)

    def held(world):
        grid = Grid.of(Collectives(world, tree), parsed.parts)
        rank = build_rank(network, settings, parsed, grid, InlineCommThread())
        memory = rank.memory
        return PlannedMemory(
            rank.parameters.parameter_bytes,
            held_bytes(memory.arrays()),
            held_bytes(memory.working_arrays()),
        )

    found = run_ranks(ranks, held)
    assert found == [planned_memory(network, settings, parsed, tree, rank) for rank in range(ranks)]
    assert all(min(planned.parameters, planned.values, planned.working) > 0 for planned in found)


def test_bf16_takes_more_working_memory_and_nothing_else():
    network, tree = build_model("resnet18", {}), Tree.of(1, 16)
    plain, rounded = (
        planned_memory(network, RankSettings(16, 1, precision=each), Plan(), tree, 0)
        for each in ("fp32", "bf16")
    )
    assert (rounded.parameters, rounded.values) == (plain.parameters, plain.values)
    assert rounded.working > plain.working


def test_microbatches_hold_the_values_of_one_only_and_a_few_more_gradients():
    network = build_model("cifar10", {})
    whole, cut = (
        planned_memory(network, RankSettings(64, 1, accumulate=each), Plan(), Tree.of(2, 16), 0)
        for each in (1, 4)
    )
    assert cut.values == pytest.approx(whole.values / 4, rel=0.01)  # each array is aligned
    gradients = whole.parameters / 2.5  # beside weights, and velocities of a half
    assert cut.parameters == pytest.approx(whole.parameters + 2 * gradients, rel=0.01)
    assert cut.values + cut.working < 0.6 * (whole.values + whole.working)  # transformed weights are kept


@pytest.mark.parametrize("ranks", [1, 4])
def test_moments_and_averages_take_a_strip_each(ranks):
    network, tree = build_model("digits", {}), Tree.of(ranks, 16)

    def parameters(**fields):
        settings = settings_of(Recipe(steps=1, **fields), 1)
        return planned_memory(network, settings, Plan(), tree, 0).parameters

    plain = parameters()
    strips = network.parameter_count() * 4 / ranks
    kinds = {"lars": 0, "adamw": 1, "lamb": 1}
    for kind, more in kinds.items():
        found = parameters(optimizer=OptimizerFields(kind)) - plain
        assert found == pytest.approx(more * strips, rel=0.1)  # weights are padded
    assert parameters(ema=0.9) - plain == pytest.approx(strips, rel=0.1)


def test_nothing_is_touched():
    """Tens of gigabytes are counted in a moment."""
    planned = planned_memory(build_model("vgg_a", {}), RankSettings(256, 1), Plan(), Tree.of(64, 64), 0)
    assert isinstance(planned, PlannedMemory)
    assert planned.parameters == pytest.approx(4 * 132_863_336 * (2 + 1 / 64), rel=0.01)
