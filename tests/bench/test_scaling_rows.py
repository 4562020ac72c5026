"""What the scaling benchmark makes of its runs, without running any."""

import pytest

from bench.places import Place
from bench.scaling import row, table
from bench.scaling_cases import Case, Size, steady
from engine.profile.breakdown import Breakdown, combine
from engine.profile.recorder import StepSums
from layers.work import FORWARD

SIZE = Size(batch=32, leaves=8, steps=6)


def told(exposed: float, alone: float | None, ranks: int = 2) -> Breakdown:
    """Return the table of a run whose steps of 1 s compute for 0.5 s."""
    sums = StepSums(3, 3.0, {FORWARD: 1.5}, {"reduce fc6": 3 * exposed})
    breakdown = combine([sums] * ranks, alone)
    assert breakdown is not None
    return breakdown


def ours(place: str = "2x1") -> Case:
    case = Case("digits", "ours", Place.parse(place), seconds=[1.0, 1.0, 1.0])
    case.breakdowns += [told(0.25, 0.5), told(0.125, 0.5), told(0.375, 1.0)]
    return case


def test_a_row_says_what_run_json_says_as_medians_over_the_rounds() -> None:
    case = ours()
    shown = row(case, [case], SIZE, {})
    assert shown["compute_seconds"] == pytest.approx(0.5)
    assert shown["exposed_communication_seconds"] == pytest.approx(0.25)
    assert shown["communication_alone_seconds"] == 0.5
    assert shown["hidden_share"] == pytest.approx(0.625)
    assert shown["compute_alone_seconds"] is None
    assert shown["step_over_bound"] == pytest.approx(2.0)
    assert "~0.5000     0.5000     0.2500       0.62       2.00" in table([shown])[1]


def test_compute_that_was_measured_alone_comes_before_that_of_the_run() -> None:
    case = ours()
    apart = Case("digits", "alone", case.place, seconds=[0.8])
    shown = row(case, [case, apart], SIZE, {})
    assert (shown["compute_alone_seconds"], shown["step_over_bound"]) == (0.8, pytest.approx(1.25))
    assert "     0.8000     0.5000" in table([shown])[1]


def test_one_rank_has_no_communication_to_say_anything_about() -> None:
    case = Case("digits", "ours", Place.parse("1x1"), seconds=[1.0])
    case.breakdowns.append(told(0.25, None, ranks=1))
    shown = row(case, [case], SIZE, {})
    assert shown["communication_alone_seconds"] is shown["hidden_share"] is shown["step_over_bound"] is None
    assert shown["exposed_communication_seconds"] == 0.0


def test_the_first_steps_do_not_count_but_never_all() -> None:
    assert steady([9.0, 9.0, 9.0, 1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0]
    assert steady([9.0, 1.0]) == [1.0]
    assert steady([1.0]) == [1.0]
