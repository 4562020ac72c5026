"""Laps of the step clock, from the end of one step to the end of the next, and their medians."""

from dataclasses import dataclass, field

import pytest

from engine.profile import step_clock
from engine.profile.recorder import Recorder
from engine.profile.step_clock import Lap, StepClock, median


@dataclass
class Counters:
    """A clock, a queue and a reader that tests turn by hand."""

    now: float = 0.0
    blocked_seconds: float = 0.0
    waited: float = 0.0
    blocked_by_name: dict[str, float] = field(default_factory=dict)


@pytest.fixture
def counters(monkeypatch):
    made = Counters()
    monkeypatch.setattr(step_clock.time, "perf_counter", lambda: made.now)
    return made


def test_a_lap_counts_from_the_one_before(counters):
    recorder = Recorder(keep=True)
    clock = StepClock(counters, lambda: counters.waited, recorder)
    counters.now, counters.blocked_seconds, counters.waited = 5.0, 2.0, 1.0
    assert clock.lap(1) == Lap(5.0, 2.0, 1.0)
    counters.now, counters.blocked_seconds = 8.0, 2.5
    assert clock.lap(2) == Lap(3.0, 0.5, 0.0)
    assert [(span.name, span.start, span.end) for span in recorder.spans] == [
        ("step 1", 0.0, 5.0),
        ("step 2", 5.0, 8.0),
    ]


def test_what_comes_before_a_restart_belongs_to_no_step(counters):
    recorder = Recorder()
    clock = StepClock(counters, lambda: counters.waited, recorder)
    recorder.wait_for_data(0.0, 4.0)
    counters.now, counters.blocked_seconds, counters.waited = 100.0, 7.0, 4.0
    clock.restart()
    counters.now = 101.0
    assert clock.lap(1) == Lap(1.0, 0.0, 0.0)
    assert recorder.steady().data == 0.0


def test_medians_leave_the_first_steps_out():
    laps = [Lap(90.0, 9.0, 9.0)] * 3 + [Lap(1.0, 0.5, 0.1), Lap(3.0, 0.1, 0.2), Lap(2.0, 0.3, 0.0)]
    assert median(laps) == Lap(2.0, 0.3, 0.1)
    assert median([Lap(4.0, 1.0, 0.0)]) == Lap(4.0, 1.0, 0.0)
    assert median([]) is None
