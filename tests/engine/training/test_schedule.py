"""The learning rate over the steps."""

import pytest

from engine.training.schedule import Schedule


def test_constant_stays():
    schedule = Schedule("constant", 0.1)
    assert [schedule.at(step) for step in (0, 10, 10_000)] == [0.1] * 3


def test_steps_multiply_at_each_milestone():
    schedule = Schedule("step", 1.0, milestones=(10, 20), factor=0.1)
    assert [schedule.at(step) for step in (9, 10, 19, 20)] == pytest.approx([1, 0.1, 0.1, 0.01])


def test_cosine_goes_from_the_rate_to_zero():
    schedule = Schedule("cosine", 2.0, total=100)
    assert schedule.at(0) == 2.0
    assert schedule.at(50) == pytest.approx(1.0)
    assert schedule.at(100) == pytest.approx(0.0)
    rates = [schedule.at(step) for step in range(101)]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("kind", ["constant", "step", "cosine"])
def test_warm_up_rises_in_a_straight_line_to_the_rate(kind):
    schedule = Schedule(kind, 1.0, warmup=4, total=20)
    assert [schedule.at(step) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_cosine_goes_down_over_the_steps_that_the_warm_up_leaves_and_stays_at_zero():
    schedule = Schedule("cosine", 3.0, warmup=4, total=20)
    assert [schedule.at(step) for step in (4, 12, 20, 25)] == pytest.approx([3.0, 1.5, 0.0, 0.0])
    assert schedule.at(8) == pytest.approx(1.5 + 1.5 * 0.5**0.5)


def test_a_warm_up_that_fills_the_run_leaves_no_cosine():
    assert Schedule("cosine", 2.0, warmup=4, total=4).at(4) == 2.0


def test_unless_told_otherwise_there_is_no_warm_up_and_a_milestone_divides_by_ten():
    assert Schedule("constant", 2.0).at(0) == 2.0
    assert Schedule("step", 2.0, milestones=(1,)).at(1) == pytest.approx(0.2)
