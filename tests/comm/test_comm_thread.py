"""Jobs run beside the caller or inline, in the order of their priorities, and none after one that failed."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from comm.comm_thread import CommandQueue, CommThread, InlineCommThread
from comm.job import Job

both = pytest.mark.parametrize("make", [CommThread, InlineCommThread])
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
    go, names = threading.Event(), []

    def work() -> None:
        go.wait(10)
        names.append(threading.current_thread().name)

    jobs = CommThread()
    request = jobs.submit(job(work))
    assert not names
    go.set()
    request.wait()
    jobs.close()
    assert names == ["comm"]


def test_inline_jobs_have_run_when_submit_returns() -> None:
    ran: list[int] = []
    InlineCommThread().submit(job(partial(ran.append, 1)))
    assert ran == [1]


def test_ctrl_c_leaves_an_inline_job_at_once() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        InlineCommThread().submit(job(interrupted))
