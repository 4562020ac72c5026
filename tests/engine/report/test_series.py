"""How numbers are packed into a page."""

import base64

import numpy as np
import pytest

from engine.report.series import packed, thin


def unpacked(series):
    """Return the steps and the values of a packed series, as the page's script reads them."""
    x = series["x"]
    if "first" in x:
        steps = np.arange(x["first"], x["first"] + x["count"])
    else:
        steps = np.frombuffer(base64.b64decode(x["data"]), {"f4": "<f4", "f8": "<f8"}[x["type"]])
    return steps, np.frombuffer(base64.b64decode(series["y"]), "<f4")


def test_a_short_series_is_whole():
    x, y = np.arange(5.0, 105.0), np.linspace(0, 1, 100)
    series = packed(x, y, 50)
    assert series["x"] == {"first": 5.0, "count": 100}
    assert "window" not in series
    steps, values = unpacked(series)
    np.testing.assert_array_equal(steps, x)
    np.testing.assert_array_equal(values, y.astype(np.float32))


@pytest.mark.parametrize("length", [1001, 1999, 4096, 10_000])
def test_thinning_keeps_the_lowest_and_the_highest_of_each_window_and_its_mean(length):
    x, y = np.arange(1.0, length + 1), np.random.default_rng(length).standard_normal(length)
    found = thin(x, y, 500)
    assert len(found.x) <= 1000
    assert (np.diff(found.x) > 0).all()
    np.testing.assert_array_equal(found.y, y[found.x.astype(int) - 1])
    for number, start in enumerate(range(0, length, found.window)):
        window = y[start : start + found.window]
        inside = (found.x > start) & (found.x <= start + found.window)
        assert {window.min(), window.max()} == set(found.y[inside])
        assert found.mean[number] == pytest.approx(window.mean())
        assert start < found.mean_x[number] <= start + found.window


def test_values_that_are_not_finite_count_where_a_window_has_no_other():
    y = np.arange(100.0)
    y[[3, 4]] = np.nan, np.inf
    y[20:30] = np.nan
    found = thin(np.arange(100.0), y, 10)
    assert found.window == 10
    assert np.isnan(found.y).sum() == 1
    assert np.isnan(found.mean[2])
    assert found.mean[0] == pytest.approx((0 + 1 + 2 + 5 + 6 + 7 + 8 + 9) / 8)


def test_steps_beyond_float32_are_exact():
    x = np.array([1.0, 2.0**24 + 1, 2.0**40 + 1])
    steps, _ = unpacked(packed(x, np.zeros(3), 10))
    np.testing.assert_array_equal(steps, x)


def test_a_value_beyond_float32_is_a_gap():
    _, values = unpacked(packed(np.arange(2.0), np.array([1e300, np.nan]), 10))
    assert not np.isfinite(values).any()


def test_nothing_is_packed_as_nothing():
    steps, values = unpacked(packed(np.zeros(0), np.zeros(0), 10))
    assert (steps.size, values.size) == (0, 0)
