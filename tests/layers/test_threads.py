# ruff: noqa: ARG001 -- the arguments of kernels have fixed places
"""The worker threads that run kernels."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pytest
from numba import float32, int64, types

from layers.kernels import atomics
from layers.kernels.jit import kernel
from layers.kernels.threads import INLINE_WORK, Threads

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="threads are pinned on Linux only")


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[Threads]:
    made = Threads(request.param)
    yield made
    made.close()


@lru_cache
def counter():
    @kernel(int64, int64, int64, int64[::1])
    def count_tasks(worker, first, last, done):
        for task in range(first, last):
            done[task] += 1

    return count_tasks


@lru_cache
def meeting():
    @kernel(int64, int64, int64, int64, int64[::1])
    def meet(worker, first, last, wanted, met):
        if met[8 * worker] == 0:  # a worker's first range waits for those of the others
            met[8 * worker] = 1
            atomics.add(met[len(met) - 1 :].ctypes.data, 1)
            while atomics.load(met[len(met) - 1 :].ctypes.data) < wanted:
                atomics.sleep(10)

    return meet


@pytest.mark.parametrize("tasks", [0, 1, 2, 7, 100, 12345])
@pytest.mark.parametrize("work", [0, INLINE_WORK])
def test_each_task_is_done_once(threads: Threads, tasks: int, work: int) -> None:
    done = np.zeros(tasks, np.int64)
    threads.run(counter(), tasks, work, done)
    assert (done == 1).all()


def test_thousands_of_jobs_one_after_the_other_lose_no_task_and_mix_no_arguments(threads: Threads) -> None:
    done = [np.zeros(tasks, np.int64) for tasks in range(2, 42)]
    for turn in range(5000):
        array = done[turn % len(done)]
        threads.run(counter(), len(array), INLINE_WORK, array)
        if turn % 1000 == 0:
            time.sleep(2e-3)  # the workers fall asleep
    assert all((array == 5000 // len(done)).all() for array in done)


def test_all_kinds_of_arguments_reach_every_worker(threads: Threads) -> None:
    strided, images = float32[:, :], types.UniTuple(float32[::1], 2)

    @kernel(int64, int64, int64, strided, float32, images, types.boolean, int64)
    def write(worker, first, last, target, scale, pair, negative, shift):
        for task in range(first, last):
            value = scale * pair[0][task] + pair[1][task] + shift
            target[task, 0] = -value if negative else value

    target = np.zeros((500, 6), np.float32)
    one, other = np.arange(500, dtype=np.float32), np.ones(500, np.float32)
    threads.run(write, 500, INLINE_WORK, target[:, ::3], 2.0, (one, other), True, 3)
    assert (target[:, 0] == -(2 * one + 4)).all() and not target[:, 1:].any()


@pytest.mark.parametrize("cores", [None, 0])
def test_all_workers_take_part(cores: int | None) -> None:
    core = None if cores is None else (min(os.sched_getaffinity(0)),) * 3
    threads = Threads(3, core)
    met = np.zeros(8 * 3 + 1, np.int64)
    threads.run(meeting(), 100, INLINE_WORK, 3, met)  # would never end
    threads.close()
    assert met[:24:8].tolist() == [1, 1, 1] and met[-1] == 3


def test_worker_numbers_are_below_the_count(threads: Threads) -> None:
    @kernel(int64, int64, int64, int64[::1])
    def note(worker, first, last, by):
        by[first:last] = worker

    by = np.full(1000, -1, np.int64)
    threads.run(note, 1000, INLINE_WORK, by)
    assert by.min() >= 0 and by.max() < threads.count


def test_a_kernel_that_fails_is_an_error_of_the_caller_and_forgotten_by_the_next_run() -> None:
    @kernel(int64, int64, int64, int64[::1])
    def fail(worker, first, last, done):
        if first >= 4:
            raise ValueError

    threads, done = Threads(2), np.zeros(8, np.int64)
    with pytest.raises(RuntimeError, match="fail"):
        threads.run(fail, 8, INLINE_WORK, done)
    threads.run(counter(), 8, INLINE_WORK, done)
    threads.close()
    assert done.tolist() == [1] * 8


def test_close_ends_the_workers() -> None:
    before = set(threading.enumerate())
    threads = Threads(3)
    started = set(threading.enumerate()) - before
    assert len(started) == 2
    threads.close()
    for thread in started:
        thread.join(timeout=10)
        assert not thread.is_alive()


@linux_only
def test_workers_stay_on_their_cores_and_the_caller_is_free_again_after_close() -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    known = set(threading.enumerate())
    threads = Threads(2, (core, core))
    (worker,) = set(threading.enumerate()) - known
    assert os.sched_getaffinity(0) == {core}
    threads.run(counter(), 100, INLINE_WORK, np.zeros(100, np.int64))
    deadline = time.monotonic() + 10
    while os.sched_getaffinity(worker.native_id) != {core} and time.monotonic() < deadline:
        time.sleep(1e-3)
    assert os.sched_getaffinity(worker.native_id) == {core}
    threads.close()
    assert os.sched_getaffinity(0) == before


@linux_only
def test_without_cores_nobody_is_pinned() -> None:
    before = os.sched_getaffinity(0)
    known = set(threading.enumerate())
    threads = Threads(2)
    (worker,) = set(threading.enumerate()) - known
    assert os.sched_getaffinity(0) == os.sched_getaffinity(worker.native_id) == before
    threads.close()


@pytest.mark.parametrize(
    ("count", "cores", "message"),
    [(0, None, "threads: got 0, must be at least 1"), (2, (0,), "got 1 cores for 2 threads, must be one")],
)
def test_counts_that_do_not_fit_are_refused(count: int, cores: tuple[int, ...] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Threads(count, cores)


@pytest.mark.parametrize("allowed", [0, 1])
def test_where_the_system_starts_no_more_threads_those_that_are_there_do_all(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, allowed: int
) -> None:
    start, started = threading.Thread.start, []

    def limited(thread: threading.Thread) -> None:
        if len(started) >= allowed:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    threads = Threads(4)
    assert threads.count == 1 + allowed
    done = np.zeros(1000, np.int64)
    threads.run(counter(), 1000, INLINE_WORK, done)
    threads.close()
    assert (done == 1).all()
    (record,) = caplog.records
    assert record.message == f"warning: only {1 + allowed} of 4 kernel threads can be started here"
