"""What is said of a run's speed and of the time that is left."""

import pytest

from engine.run import pace as module
from engine.run.pace import Pace, clock


@pytest.fixture
def now(monkeypatch):
    at = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: at[0])
    return at


def test_the_first_steps_which_compile_count_neither_for_the_rate_nor_for_the_time_left(now):
    pace = Pace(total_steps=105, first_step=100 - 5)
    for step, seconds in ((96, 50.0), (97, 5.0), (98, 1.0), (99, 1.0), (100, 1.0)):
        now[0] += seconds
        pace.step(step, 8 / seconds)
        assert (pace.samples_per_second is None) == (step <= 98)
    assert pace.samples_per_second == 8.0
    assert pace.seconds_left == 5.0
    assert pace.words() == ["8 samples/s", "0:05 left"]


def test_a_run_of_one_step_has_a_rate(now):
    pace = Pace(total_steps=1, first_step=0)
    now[0] += 2.0
    pace.step(1, 4.0)
    assert pace.words() == ["4 samples/s", "0:00 left"]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0:00"), (187, "3:07"), (3600, "1:00:00"), (93784, "1d 02:03:04")]
)
def test_times_are_shown_as_on_a_clock(seconds, shown):
    assert clock(seconds) == shown
