"""Jobs run beside the caller or inline, in the order of their priorities, and none after one that failed."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from comm import comm_thread as module
from comm.comm_thread import AllOf, CommandQueue, CommThread, InlineCommThread, Request
from comm.job import Job
from comm.scheduler import Scheduler

patient = partial(CommThread, patient=True)
both = pytest.mark.parametrize("make", [CommThread, patient, InlineCommThread])
Make = Callable[..., CommandQueue]


def job(call: Callable[[], Any]) -> Job:
    """Return a job without messages."""
    call()
    yield None


def fail() -> None:
    raise ConnectionError("the link is down")


@both
def test_jobs_run_in_the_order_of_submission(make: Make) -> None:
    ran: list[int] = []
    jobs = make()
    requests = [jobs.submit(job(partial(ran.append, number))) for number in range(100)]
    for request in reversed(requests):
        request.wait()
    jobs.close()
    assert ran == list(range(100))


@both
def test_close_runs_what_was_submitted(make: Make) -> None:
    ran: list[int] = []
    jobs = make()
    for number in range(10):
        jobs.submit(job(partial(ran.append, number)))
    jobs.close()
    assert len(ran) == 10


@both
def test_wait_raises_what_the_job_raised(make: Make) -> None:
    jobs = make()
    request = jobs.submit(job(fail))
    with pytest.raises(ConnectionError, match="the link is down"):
        request.wait()
    jobs.close()


@both
def test_no_job_runs_after_one_that_failed_and_all_waiters_learn_why(make: Make) -> None:
    ran: list[int] = []
    jobs = make()
    requests = [jobs.submit(job(fail)), jobs.submit(job(partial(ran.append, 1)))]
    jobs.close()
    for request in requests:
        with pytest.raises(ConnectionError, match="the link is down"):
            request.wait()
    assert not ran


@both
def test_on_failure_is_called_once_and_before_any_waiter_goes_on(make: Make) -> None:
    seen: list[BaseException] = []
    jobs = make(on_failure=seen.append)
    requests = [jobs.submit(job(fail)), jobs.submit(job(fail))]
    with pytest.raises(ConnectionError) as raised:
        requests[0].wait()
    assert seen == [raised.value]
    jobs.close()
    assert len(seen) == 1


def test_the_thread_works_beside_the_caller() -> None:
    go, done, names = threading.Event(), threading.Event(), []

    def work() -> None:
        go.wait(10)
        names.append(threading.current_thread().name)
        done.set()

    jobs = CommThread()
    jobs.submit(job(work))
    assert not names
    go.set()
    assert done.wait(10)
    jobs.close()
    assert names == ["comm"]


def until(seen: Callable[[], bool], names: list[str]) -> Job:
    """Return a job that notes the thread of each turn, until something is seen, or 10 s have passed."""
    deadline = time.monotonic() + 10
    while not seen() and time.monotonic() < deadline:
        names.append(threading.current_thread().name)
        yield None


def test_a_caller_that_waits_advances_the_jobs_and_the_thread_goes_on_after_it() -> None:
    caller, waited = threading.current_thread().name, threading.Event()
    here, after, ended = list[str](), list[str](), threading.Event()

    def last() -> Job:
        yield from until(lambda: waited.is_set() and "comm" in after, after)
        ended.set()

    jobs = CommThread()
    jobs.submit(last(), priority=1)
    jobs.submit(until(lambda: caller in here, here)).wait()
    assert here[-1] == caller
    after.clear()
    waited.set()
    assert ended.wait(10) and set(after) == {"comm"}
    jobs.close()


def test_threads_take_turns_and_no_job_is_advanced_by_two() -> None:
    busy, clashes, turns = threading.Lock(), [], 20

    def work() -> Job:
        for _ in range(turns):
            clashes.append(not busy.acquire(blocking=False))
            time.sleep(1e-5)
            busy.release()
            yield None

    jobs = CommThread()
    for _ in range(50):
        last = jobs.submit(work())
        jobs.submit(work(), after=last).wait()
    jobs.close()
    assert len(clashes) == 50 * 2 * turns and not any(clashes)


def test_inline_jobs_have_run_when_submit_returns() -> None:
    ran: list[int] = []
    InlineCommThread().submit(job(partial(ran.append, 1)))
    assert ran == [1]


def test_ctrl_c_leaves_an_inline_job_at_once() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        InlineCommThread().submit(job(interrupted))


@both
def test_a_job_without_a_name_and_a_priority_has_none_and_0(make: Make) -> None:
    spans: list[tuple[str, dict[str, Any]]] = []
    jobs = make(on_span=lambda name, _start, _end, about: spans.append((name, about)))
    jobs.submit(job(lambda: None)).wait()
    jobs.submit(job(lambda: None), name="update", priority=3).wait()
    jobs.close()
    assert spans == [
        ("", {"kind": "job", "bytes": 0, "priority": 0}),
        ("update", {"kind": "job", "bytes": 0, "priority": 3}),
    ]


@both
def test_a_request_knows_whether_its_job_has_ended(make: Make) -> None:
    jobs = make()
    request = jobs.submit(job(lambda: None))
    request.wait()
    assert request.has_ended()
    request.wait()  # again, at once
    jobs.close()


def test_a_job_starts_only_after_the_one_that_it_follows() -> None:
    go, ran = threading.Event(), list[str]()

    def first() -> None:
        go.wait(10)
        ran.append("first")

    def first_job() -> Job:
        yield None
        first()

    jobs = CommThread()
    before = jobs.submit(first_job(), priority=9)
    after = jobs.submit(job(partial(ran.append, "after")), priority=1, after=before)
    assert not before.has_ended()
    assert not after.has_ended()
    go.set()
    after.wait()
    jobs.close()
    assert ran == ["first", "after"]


def test_a_patient_thread_runs_what_nobody_waits_for() -> None:
    done = threading.Event()
    jobs = patient()
    jobs.submit(job(done.set))
    assert done.wait(30)
    jobs.close()


def test_only_the_time_in_which_the_caller_is_blocked_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("comm.comm_thread.time.perf_counter", lambda: now[0])
    jobs = CommThread()
    for seconds in (2.0, 3.0):
        with jobs.blocked("update"):
            now[0] += seconds
        now[0] += 100.0
    with jobs.blocked("reduce"):
        now[0] += 0.5
    assert jobs.blocked_by_name == {"update": 5.0, "reduce": 0.5}
    assert jobs.blocked_seconds == 5.5
    jobs.close()


def test_the_thread_is_a_daemon_that_ends_when_it_is_closed() -> None:
    before = set(threading.enumerate())
    jobs = CommThread()
    (thread,) = set(threading.enumerate()) - before
    assert thread.name == "comm"
    assert thread.daemon
    jobs.close()
    assert not thread.is_alive()


def test_the_thread_lets_as_many_bytes_fly_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    class Told(Scheduler):
        def __init__(self, *, bytes_in_flight: int, **others: Any) -> None:
            told.append(bytes_in_flight)
            super().__init__(bytes_in_flight=bytes_in_flight, **others)

    monkeypatch.setattr(module, "Scheduler", Told)
    CommThread(bytes_in_flight=12345).close()
    assert told == [12345]


def test_nobody_is_awaited_once_a_wait_is_over() -> None:
    queue = CommThread()
    queue.submit(iter([None]), name="short").wait()
    assert queue.awaited is None
    queue.close()


def test_a_request_is_called_as_its_job() -> None:
    inline, thread = InlineCommThread(), CommThread()
    assert [queue.submit(iter([None]), name="short").name for queue in (inline, thread)] == ["short"] * 2
    thread.close()


@both
def test_a_job_starts_only_after_all_that_it_follows(make: Make) -> None:
    ran = list[str]()

    def slow() -> Job:
        for _ in range(50):
            yield None
        ran.append("slow")

    jobs = make()
    first = [jobs.submit(slow(), priority=9), jobs.submit(job(partial(ran.append, "quick")), priority=8)]
    both_of_them = AllOf(first)
    after = jobs.submit(job(partial(ran.append, "after")), priority=1, after=both_of_them)
    after.wait()
    both_of_them.wait()
    assert both_of_them.has_ended()
    assert ran[-1] == "after" and sorted(ran[:-1]) == ["quick", "slow"]
    jobs.close()


def test_all_have_not_ended_while_one_has_not() -> None:
    jobs = InlineCommThread()
    ended, running = Request(jobs, "ended"), Request(jobs, "running")
    ended.end(None)
    assert not AllOf([ended, running]).has_ended()
    running.end(ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        AllOf([ended, running]).wait()


@both
def test_an_abandoned_queue_ends_and_so_do_jobs_that_come_later(make: Make) -> None:
    jobs, ran = make(), list[int]()
    never = Request(jobs, "of another rank, which is lost")
    late = None if make is InlineCommThread else jobs.submit(job(partial(ran.append, 1)), after=never)
    jobs.abandon(ConnectionError("a rank is lost"))
    if late is not None:
        with pytest.raises(ConnectionError, match="a rank is lost"):
            late.wait()
    else:
        with pytest.raises(ConnectionError, match="a rank is lost"):
            jobs.submit(job(partial(ran.append, 2))).wait()
    assert ran == []
