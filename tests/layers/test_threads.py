"""The worker threads that run kernels."""

import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from layers.kernels.threads import INLINE_WORK, Threads


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[Threads]:
    made = Threads(request.param)
    yield made
    made.close()


@pytest.mark.parametrize("tasks", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("work", [0, INLINE_WORK])
def test_each_task_is_done_once(threads: Threads, tasks: int, work: int) -> None:
    done: list[int] = []
    threads.run(lambda _, first, last: done.extend(range(first, last)), tasks, work)
    assert Counter(done) == Counter(range(tasks))


def test_arguments_reach_every_worker(threads: Threads) -> None:
    seen: list[tuple[str, int]] = []
    threads.run(lambda *given: seen.append(given[3:]), 10, INLINE_WORK, "a", 3)
    assert set(seen) == {("a", 3)}


def test_worker_numbers_are_below_the_count_and_one_at_a_time(threads: Threads) -> None:
    busy = [threading.Lock() for _ in range(threads.count)]

    def kernel(worker: int, *_: int) -> None:
        assert busy[worker].acquire(blocking=False)
        busy[worker].release()

    threads.run(kernel, 1000, INLINE_WORK)


def test_all_workers_take_part() -> None:
    together = threading.Barrier(3, timeout=10)
    threads = Threads(3)

    met: list[int] = []

    def meet(worker: int, *_: int) -> None:
        if worker not in met:  # a worker's first range waits for those of the others
            met.append(worker)
            together.wait()

    threads.run(meet, 12, INLINE_WORK)
    threads.close()
    assert sorted(met) == [0, 1, 2]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_in_a_worker_is_raised_to_the_caller(failing: int) -> None:
    threads = Threads(3)
    together = threading.Barrier(3, timeout=10)
    met: list[int] = []

    def kernel(worker: int, *_: int) -> None:
        if worker not in met:
            met.append(worker)
            together.wait()
        if worker == failing:
            raise RuntimeError(f"worker {worker}")

    with pytest.raises(RuntimeError, match=f"worker {failing}"):
        threads.run(kernel, 12, INLINE_WORK)
    threads.close()


def test_an_error_is_forgotten_by_the_next_run() -> None:
    threads = Threads(2)
    together = threading.Barrier(2, timeout=10)

    def fail(worker: int, *_: int) -> None:
        together.wait()
        raise RuntimeError(f"worker {worker}")

    with pytest.raises(RuntimeError):
        threads.run(fail, 8, INLINE_WORK)
    done: list[int] = []
    threads.run(lambda _, first, last: done.extend(range(first, last)), 8, INLINE_WORK)
    threads.close()
    assert sorted(done) == list(range(8))


def test_close_ends_the_workers() -> None:
    before = set(threading.enumerate())
    threads = Threads(3)
    started = set(threading.enumerate()) - before
    assert len(started) == 2
    threads.close()
    for thread in started:
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_a_count_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="threads: got 0, must be at least 1"):
        Threads(0)
