"""The learning rate over the steps."""

from itertools import pairwise

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


@pytest.mark.parametrize("kind", ["constant", "step", "cosine", "polynomial", "one_cycle", "exponential"])
def test_warm_up_rises_in_a_straight_line_to_the_rate(kind):
    schedule = Schedule(kind, 1.0, warmup=4, total=20, start=1.0, end=1.0)
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


def test_a_polynomial_goes_down_to_its_end_as_a_power_of_what_is_left():
    schedule = Schedule("polynomial", 2.0, warmup=4, total=20, power=2)
    assert [schedule.at(step) for step in (4, 12, 16, 20, 25)] == pytest.approx([2, 0.5, 0.125, 0, 0])
    straight = Schedule("polynomial", 2.0, total=10, end=0.5)
    assert [straight.at(step) for step in (0, 5, 10)] == pytest.approx([2, 1.5, 1])


def test_one_cycle_goes_up_to_its_peak_and_down_to_its_end_in_straight_lines():
    schedule = Schedule("one_cycle", 2.0, total=20, start=0.2, peak=5, end=0.1)
    assert [schedule.at(step) for step in (0, 1, 4, 5)] == pytest.approx([0.4, 0.72, 1.68, 2.0])
    assert [schedule.at(step) for step in (8, 14, 20, 30)] == pytest.approx([1.64, 0.92, 0.2, 0.2])
    warm = Schedule("one_cycle", 2.0, warmup=2, total=22, start=0.2, peak=5, end=0.1)
    assert [warm.at(step) for step in (2, 7, 22)] == pytest.approx([0.4, 2.0, 0.2])


def test_one_cycle_without_a_rise_begins_at_its_peak_and_may_fill_the_run():
    assert Schedule("one_cycle", 2.0, total=10).at(0) == 2.0
    assert Schedule("one_cycle", 2.0, total=10, peak=10).at(9) == pytest.approx(2 * (0.04 + 0.96 * 0.9))


def test_an_exponential_goes_by_equal_factors_from_the_rate_to_its_end_in_the_last_step():
    rising = Schedule("exponential", 1e-5, total=101, end=1e6)
    rates = [rising.at(step) for step in range(101)]
    assert [rates[0], rates[100]] == [1e-5, 1e-5 * 1e6]
    assert [rates[50] / rates[0], *(b / a for a, b in pairwise(rates))] == pytest.approx(
        [1e3] + [10**0.06] * 100
    )
    falling = Schedule("exponential", 2.0, warmup=4, total=13, end=0.01)
    assert [falling.at(step) for step in (4, 8, 12, 20)] == pytest.approx([2.0, 0.2, 0.02, 0.02])
    assert Schedule("exponential", 2.0, total=1, end=0.01).at(0) == 2.0


def test_what_a_schedule_begins_and_ends_with_unless_told_otherwise():
    assert Schedule("one_cycle", 1.0, total=10, peak=5).at(0) == 0.04
    assert Schedule("one_cycle", 1.0, total=10, peak=5).at(10) == 0.0
    assert Schedule("polynomial", 1.0, total=10).at(5) == 0.5
