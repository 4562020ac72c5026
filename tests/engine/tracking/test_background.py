"""Trackers on threads of their own: what fails is tried again, told once, and never in the run's way."""

import threading

import pytest

from engine.tracking import background as module
from engine.tracking.background import Background
from engine.tracking.tracker import DONE
from tests.engine.tracking.written import about, line

WAIT_S = 20.0


class Remembered:
    """A tracker that fails so many times, and then takes all; or waits for a door to open."""

    def __init__(self, failures=0):
        self.failures, self.begun, self.steps, self.ended = failures, 0, [], []
        self.first = 10**9
        self.door, self.failed = threading.Event(), threading.Event()
        self.door.set()

    def begin(self):
        self.begun += 1
        return self.steps[-1] if self.steps else self.first

    def write(self, lines):
        assert self.door.wait(WAIT_S)
        if self.failures:
            self.failures -= 1
            self.failed.set()
            raise ConnectionError("the server\nis gone")
        self.steps += [each.step for each in lines]

    def end(self, ending, results):
        self.ended.append((ending, results))


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.0)
    monkeypatch.setattr(module, "_GATHERING_S", 0.0)


@pytest.fixture
def run(tmp_path):
    return about(tmp_path / "run", step=3)


def start(tracker, run):
    said = []
    return Background("board", tracker, run, lambda text: said.append(f"warning: {text}"), said.append), said


def test_lines_are_written_in_order_and_the_end_behind_them(run):
    tracker = Remembered()
    background, said = start(tracker, run)
    for step in range(1, 6):
        background.put(line(step, 1.0))
    background.end(DONE, {"steps": 5}, patience=WAIT_S)
    assert (tracker.steps, tracker.ended, said) == ([1, 2, 3, 4, 5], [(DONE, {"steps": 5})], [])


def test_what_fails_is_tried_again_and_told_once(run):
    tracker = Remembered(failures=3)
    background, said = start(tracker, run)
    background.put(line(1, 1.0))
    assert tracker.failed.wait(WAIT_S)
    background.put(line(2, 1.0))
    while tracker.steps != [1, 2]:
        threading.Event().wait(0.01)
    background.end(DONE, {}, patience=WAIT_S)
    assert tracker.begun == 4
    assert said == [
        "warning: track: board: the server is gone; the run goes on, and what is not tracked is tried again "
        "until it ends"
    ]


def test_what_fails_until_the_end_is_counted(run):
    tracker = Remembered(failures=10**9)
    background, said = start(tracker, run)
    for step in (1, 2):
        background.put(line(step, 1.0))
    background.end(DONE, {}, patience=WAIT_S)
    assert (tracker.steps, tracker.ended) == ([], [])
    assert [text.partition(" ")[0] for text in said] == ["warning:", "track:"]
    assert said[1] == "track: board: 2 lines of metrics.jsonl are not there"


def test_a_tracker_that_hangs_is_given_up(run):
    tracker = Remembered()
    tracker.door.clear()
    background, said = start(tracker, run)
    background.put(line(1, 1.0))
    background.end(DONE, {}, patience=0.05)
    tracker.door.set()
    assert said == ["track: board: 1 lines of metrics.jsonl are not there"]


def test_more_lines_than_are_kept_are_left_out_and_counted(monkeypatch, run):
    monkeypatch.setattr(module, "MOST_LINES", 3)
    tracker = Remembered()
    tracker.door.clear()
    background, said = start(tracker, run)
    for step in range(1, 6):
        background.put(line(step, 1.0))
    tracker.door.set()
    background.end(DONE, {}, patience=WAIT_S)
    assert tracker.steps == [1, 2, 3]
    assert said == ["track: board: 2 lines of metrics.jsonl are not there"]


def test_without_a_thread_the_run_goes_on_untracked(monkeypatch, run):
    def refused(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    background, said = start(Remembered(), run)
    background.put(line(1, 1.0))
    background.end(DONE, {}, patience=0.0)
    assert len(said) == 2
    assert said[0].startswith("warning: track: board: can't start new thread; the run goes on")


def test_what_was_missed_comes_first_from_the_metrics(run):
    run.metrics.write_text(
        "".join(f'{{"kind": "step", "step": {step}, "loss": 1.0}}\n' for step in range(1, 6)) + "no line\n"
    )
    tracker = Remembered()
    tracker.first = 2
    background, said = start(tracker, run)
    background.put(line(4, 1.0))
    background.end(DONE, {}, patience=WAIT_S)
    assert (tracker.steps, said) == ([2, 3, 4], [])
