"""What a rank records of its own time."""

import threading
from dataclasses import dataclass, field

import pytest

from engine.profile import recorder as trace
from engine.profile.recorder import COMMUNICATION, COMPUTE, UPDATE, WAITS, Recorder, StepSums, warm_steps
from layers.work import FORWARD


@dataclass
class Queue:
    """A queue's counters, which tests turn by hand."""

    blocked_seconds: float = 0.0
    blocked_by_name: dict[str, float] = field(default_factory=dict)

    def hold_up(self, name: str, seconds: float) -> None:
        self.blocked_seconds += seconds
        self.blocked_by_name[name] = self.blocked_by_name.get(name, 0.0) + seconds


@pytest.fixture
def now(monkeypatch):
    """Stop the clock: it stands where the list says."""
    moment = [100.0]
    monkeypatch.setattr(trace.time, "perf_counter", lambda: moment[0])
    return moment


def watching(queue: Queue, *, keep: bool = True) -> Recorder:
    recorder = Recorder(keep=keep)
    recorder.watch(queue)
    return recorder


def one_step(recorder: Recorder, now: list[float], number: int, seconds: float) -> None:
    start = recorder.enter()
    now[0] += seconds
    recorder.leave("conv1", FORWARD, start)
    recorder.end_step(number, start, now[0])


def test_a_wait_between_passes_ends_where_the_next_one_starts(now):
    queue = Queue()
    recorder = watching(queue)
    now[0] = 107.0
    queue.hold_up("update conv1", 3.0)
    assert recorder.enter() == 107.0
    (wait,) = recorder.spans
    assert (wait.name, wait.row, wait.start, wait.end) == ("update conv1", WAITS, 104.0, 107.0)


def test_a_wait_inside_a_pass_is_no_compute(now):
    queue = Queue()
    recorder = watching(queue)
    start = recorder.enter()
    now[0] = 110.0
    queue.hold_up("gather fc6", 4.0)
    recorder.leave("fc6", FORWARD, start)
    recorder.end_step(1, start, 110.0)
    sums = recorder.steady()
    assert (sums.compute, sums.waits, sums.wall) == ({FORWARD: 6.0}, {"gather fc6": 4.0}, 10.0)
    spans = {span.row: (span.start, span.end) for span in recorder.spans if "step" not in span.name}
    assert spans == {COMPUTE: (100.0, 106.0), WAITS: (106.0, 110.0)}


def test_an_update_on_the_main_thread_is_compute_and_no_wait(now):
    queue = Queue()
    recorder = watching(queue)
    with recorder.updating():
        now[0] = 102.0
    now[0] = 107.0
    queue.hold_up("reduce conv1", 1.0)
    queue.hold_up("update conv1", 5.0)
    recorder.end_step(1, 100.0, 107.0)
    sums = recorder.steady()
    assert sums.compute == {UPDATE: 2.0}
    assert sums.waits == {"reduce conv1": 1.0, "update conv1": 3.0}
    assert [span.row for span in recorder.spans if span.name == UPDATE] == [COMPUTE]


def test_an_update_on_another_thread_is_not_the_main_threads_time(now):
    recorder = watching(Queue())

    def work():
        with recorder.updating():
            now[0] += 2.0

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    recorder.end_step(1, 100.0, 102.0)
    assert recorder.steady().compute == {}
    assert (recorder.spans[0].name, recorder.spans[0].row) == (UPDATE, COMMUNICATION)


@pytest.mark.parametrize(("steps", "left_out"), [(1, 0), (2, 1), (5, 2), (6, 3), (7, 3), (50, 3)])
def test_the_first_steps_are_left_out_but_never_all(now, steps, left_out):
    assert warm_steps(steps) == left_out
    recorder = watching(Queue(), keep=False)
    for number in range(1, steps + 1):
        one_step(recorder, now, number, seconds=float(2**number))
    sums = recorder.steady()
    assert sums.steps == steps - left_out
    assert list(sums.busy) == [2**number for number in range(left_out + 1, steps + 1)]
    assert sums.wall == sums.compute[FORWARD] == sum(2**number for number in range(left_out + 1, steps + 1))


def test_what_lies_between_steps_belongs_to_none(now):
    queue = Queue()
    recorder = watching(queue)
    one_step(recorder, now, 1, 1.0)
    recorder.wait_for_data(0.0, 50.0)
    with recorder.doing("evaluation"):
        recorder.leave("conv1", FORWARD, recorder.enter() - 7.0)
        queue.hold_up("update conv1", 2.0)
        now[0] += 9.0
    recorder.begin_step()
    one_step(recorder, now, 2, 1.0)
    total = recorder.steady()
    assert total == StepSums(1, 1.0, {FORWARD: 1.0}, {}, 0.0, layers={("conv1", FORWARD): 1.0})
    assert "evaluation" in {span.name for span in recorder.spans}


def test_without_keep_there_are_sums_and_no_spans(now):
    recorder = watching(Queue(), keep=False)
    one_step(recorder, now, 1, 1.0)
    recorder.communication("loss", 0.0, 1.0, {})
    recorder.load(0.0, 1.0)
    assert recorder.spans == []
    assert recorder.steady().wall == 1.0


def test_a_trace_that_grows_too_long_keeps_its_beginning_and_says_so(now, monkeypatch):
    monkeypatch.setattr(trace, "MOST_SPANS", 3)
    recorder = watching(Queue())
    for number in (1, 2):
        assert recorder.complete
        one_step(recorder, now, number, 1.0)
    assert [span.name for span in recorder.spans] == ["conv1 forward", "step 1", "conv1 forward"]
    assert not recorder.complete
