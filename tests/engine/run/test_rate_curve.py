"""What the losses of a learning-rate range test end with and suggest."""

import json
import math

import pytest

from engine.run.rate_curve import COLUMNS, RateCurve


def curve_of(losses, *, lowest=1e-4, factor=1.2):
    """Return the curve of a test with these losses, which may end before them."""
    curve = RateCurve()
    for step, loss in enumerate(losses):
        if curve.add({"step": step + 1, "rate": lowest * factor**step, "loss": loss}):
            break
    return curve


def falling_and_rising(rate):
    """Return a loss that is flat, falls fastest at 1e-2, is lowest at 0.1, then rises."""
    at = math.log10(rate)
    return 2.3 - 2 / (1 + math.exp(-4 * (at + 2))) + 10 ** (3 * (at + 0.5))


def test_the_smoothed_loss_is_an_average_of_all_before_the_newer_the_heavier():
    curve = curve_of([2.0, 1.0, 4.0])
    weights = [0.81, 0.9, 1.0]
    wanted = sum(weight * loss for weight, loss in zip(weights, [2, 1, 4], strict=True)) / sum(weights)
    assert [point.smoothed for point in curve.points] == pytest.approx([2, (0.9 * 2 + 1) / 1.9, wanted])


def test_it_ends_where_the_smoothed_loss_is_more_than_four_times_its_lowest():
    curve = curve_of([1.0] * 20 + [20.0] * 5 + [1.0])
    assert (len(curve.points), curve.diverged) == (22, True)
    assert curve.points[-2].smoothed < 4 < curve.points[-1].smoothed
    assert not curve_of([1.0] * 20 + [4.0] * 100).diverged


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("before", [0, 1, 12])
def test_a_loss_that_is_not_finite_ends_it(loss, before):
    curve = curve_of([*(2 - 0.1 * step for step in range(before)), loss, 1.0])
    assert (len(curve.points), curve.diverged) == (before + 1, True)
    assert (curve.suggestion() is None) == (before < 8)


def test_a_tenth_of_the_rate_of_the_lowest_loss_is_suggested():
    rates = [1e-5 * 10 ** (0.06 * step) for step in range(100)]
    curve = curve_of([falling_and_rising(rate) for rate in rates], lowest=1e-5, factor=10**0.06)
    found = curve.suggestion()
    assert found.rate == found.lowest.rate / 10
    assert found.lowest == min(curve.points, key=lambda point: point.smoothed)
    assert 0.1 < found.lowest.rate < 0.4, "as smoothing lags by some steps"
    assert 0.01 < found.steepest.rate < 0.04
    assert curve.diverged
    assert not curve.still_falls
    first, second = curve.lines()
    assert first == f"the loss has diverged at rate {curve.points[-1].rate:.3g}, step {len(curve.points)}"
    assert second.startswith(f"suggested: --lr {found.rate:.2g}, a tenth of the rate of the lowest")


def test_a_loss_that_still_falls_wants_a_higher_rate():
    curve = curve_of([2 - 0.01 * step for step in range(50)])
    assert curve.still_falls
    assert curve.lines()[0].startswith("the loss has not diverged up to rate")
    assert curve.lines()[-1] == "the loss still falls at the highest rate: a higher --to tells more"
    assert not curve_of([*(2 - 0.01 * step for step in range(50)), 3.0]).still_falls


@pytest.mark.parametrize("losses", [[1.0] * 40, [1 + 0.01 * step for step in range(40)], [2.0, 1.0]])
def test_nothing_is_suggested_where_the_loss_does_not_fall(losses):
    curve = curve_of(losses)
    assert curve.suggestion() is None
    assert curve.lines()[-1].startswith("nothing is suggested: the loss does not fall")
    assert (curve.to_json()["suggested_rate"], curve.to_json()["lowest"]) == (None, None)


def test_a_table_has_all_digits_and_nothing_for_what_is_not_finite():
    curve = curve_of([0.1 + 0.2, math.nan], lowest=1e-4, factor=3.0)
    assert curve.table(as_csv=True).splitlines() == [
        "step,rate,loss,smoothed_loss",
        f"1,0.0001,{0.1 + 0.2!r},{curve.points[0].smoothed!r}",
        f"2,{1e-4 * 3.0!r},,",
    ]
    first, second = map(json.loads, curve.table(as_csv=False).splitlines())
    assert first == dict(zip(COLUMNS, (1, 1e-4, 0.1 + 0.2, curve.points[0].smoothed), strict=True))
    assert second == {"step": 2, "rate": 1e-4 * 3.0, "loss": None, "smoothed_loss": None}
