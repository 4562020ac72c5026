"""Which evaluation is the best, and for how long there was none better."""

import math

import pytest

from engine.run.best import Best, compared


def after(metric, values):
    best = None
    for step, value in enumerate(values, start=1):
        best = compared(best, metric, value, step)
    return best


@pytest.mark.parametrize(
    ("metric", "values", "step", "without"),
    [
        ("test_accuracy", [0.2, 0.6, 0.5, 0.6], 2, 2),
        ("test_accuracy", [0.0], 1, 0),
        ("test_loss", [2.0, 0.6, 0.5, 0.5], 3, 1),
        ("test_loss", [2.0, math.nan, -1.0, math.inf], 3, 1),
    ],
)
def test_the_first_of_the_best_counts(metric, values, step, without):
    assert after(metric, values) == Best(metric, values[step - 1], step, len(values), without)


def test_what_is_not_finite_is_never_the_best():
    assert after("test_loss", [math.nan, math.inf]) is None
    assert after("test_loss", [math.nan, 3.0, math.nan]) == Best("test_loss", 3.0, 2, 3, 1)
