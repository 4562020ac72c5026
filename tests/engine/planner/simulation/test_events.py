"""Simulated time passes as it should."""

import pytest

from engine.planner.simulation.events import EventQueue, SharedCores


def test_events_happen_in_the_order_of_their_times_and_then_of_their_coming():
    events, happened = EventQueue(), []
    events.at(2.0, lambda: happened.append("late"))
    events.at(1.0, lambda: happened.append("first"))
    events.at(1.0, lambda: events.at(1.5, lambda: happened.append("made on the way")))
    events.at(1.0, lambda: happened.append("second"))
    events.run()
    assert happened == ["first", "second", "made on the way", "late"]
    assert events.now == 2.0


@pytest.mark.parametrize(
    ("cores", "copies", "threads", "seconds", "done"),
    [
        (4, 1, (2, 1), (3.0, 1.0), (3.0, 1.0)),  # room for all
        (2, 1, (2, 2), (1.0, 1.0), (2.0, 2.0)),  # half of the cores each
        (2, 1, (2, 1), (2.0, 1.0), (2.5, 1.5)),  # a third too few until the shorter one is done
        (2, 2, (1, 1), (1.0, 1.0), (2.0, 2.0)),  # each stands for two
    ],
)
def test_threads_share_cores_evenly(cores, copies, threads, seconds, done):
    events, ended = EventQueue(), {}
    machine = SharedCores(events, cores, copies)
    for number, (count, length) in enumerate(zip(threads, seconds, strict=True)):
        machine.start(length, count, lambda number=number: ended.setdefault(number, events.now))
    events.run()
    assert tuple(ended[number] for number in range(len(threads))) == pytest.approx(done)


def test_work_that_comes_later_slows_down_what_runs():
    events, ended = EventQueue(), {}
    machine = SharedCores(events, 1, 1)
    machine.start(2.0, 1, lambda: ended.setdefault("early", events.now))
    events.at(1.0, lambda: machine.start(0.5, 1, lambda: ended.setdefault("late", events.now)))
    events.run()
    assert ended == pytest.approx({"early": 2.5, "late": 2.0})
