"""A rehearsed rank: the problems of its layers, and the times of its steps."""

from dataclasses import replace

from engine.graph.parallel.plan import Plan
from engine.planner.costs import load_problem, loss_problem
from engine.planner.design import Design
from engine.planner.measurement.rehearsal import Rehearsal, Times, merged

SPLIT = Design("digits", ranks=4, batch=16, leaves=4, plan=Plan({"fc4": 2}), threads=1)


def test_a_rank_rehearses_its_own_share_without_the_others():
    rehearsal = Rehearsal(SPLIT, 3)
    times = rehearsal.measure(seconds=0.0)
    own = {(load_problem((1, 8, 8)), 4, 1), (loss_problem(10), 4, 1)}
    assert set(times.passes) == rehearsal.problems() | own
    assert len(times.rest) == 3, "so many steps at least"
    assert all(len(seconds) % 3 == 0 for passes in times.passes.values() for seconds in passes.values())


def test_layers_that_were_not_fused_are_other_layers():
    plain = replace(SPLIT, fuse=False, conv="direct")
    direct, fused = (Rehearsal(design, 0).problems() for design in (plain, SPLIT))
    assert {text.partition("(")[0] for text, _, _ in direct - fused} == {"Conv2d", "ReLU", "MaxPool"}
    assert {text.partition("(")[0] for text, _, _ in fused - direct} == {"Conv2dReLU", "Conv2dReLUPool"}


def test_times_of_several_ranks_are_put_together():
    one, other = Times(rest=[1.0]), Times(rest=[2.0])
    for times, seconds in ((one, 0.5), (other, 0.25)):
        times.note(("fc", 4, 1), "forward", seconds)
        times.work["fully_connected"] = [(100.0, seconds)]
    both = merged([one, other])
    assert both.passes == {("fc", 4, 1): {"forward": [0.5, 0.25]}}
    assert both.rate("fully_connected") == 200 / 0.75
    assert both.rate("convolution") is None
    assert both.rest == [1.0, 2.0]
