"""Jobs of any priorities end with the right bits, in whatever order ranks and messages go on."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pytest

from comm.collectives import Collectives
from comm.comm_thread import CommThread, InlineCommThread, Request
from comm.communicator import Communicator, Message, Transfer, Window
from comm.job import Job, Round
from comm.losses import RankLostError
from comm.scheduler import STALL_S, Scheduler
from comm.threads import run_ranks
from comm.tree import Tree, tree_sum
from tests.comm.late import Late, LateTransfer
from tests.comm.sums import leaf_gradients, naive_tree

LEAVES, FLOATS = 8, 200
GRADIENTS = [leaf_gradients(LEAVES, FLOATS, seed) for seed in range(4)]
SUMS = [naive_tree(leaves).tobytes() for leaves in GRADIENTS]
UPDATED = [(2 * naive_tree(leaves)).tobytes() for leaves in GRADIENTS]
"""What `prepare` makes of the sums."""


class Program:
    """What the main threads of all ranks do: submit jobs of random priorities, and wait for random ones.

    Some are exchanges between layers, as a plan has them: they go first, and the main thread waits at once.
    """

    def __init__(self, rng: random.Random):
        self.count = rng.randint(2, len(GRADIENTS))
        self.priorities = [rng.randint(0, 2) for _ in range(self.count)]
        self.waits = [rng.randint(0, number) if rng.random() < 0.6 else None for number in range(self.count)]
        self.exchanges = [rng.choice([None, None, "gather", "swap"]) for _ in range(self.count)]
        self.chunk_floats = rng.choice([32, 40, 64, FLOATS])


class Rank:
    """One rank with a main thread and a communication thread, both advanced by the test."""

    def __init__(
        self,
        inner: Communicator,
        windows: Sequence[Window],
        program: Program,
        rng: random.Random,
        clock: Callable[[], float],
    ):
        arrives = rng.choice([0.1, 0.5, 0.9])
        tree = Tree.of(inner.size, LEAVES)
        communicator = Late(inner, lambda: rng.random() < arrives)
        self.collectives = Collectives(
            communicator, tree, chunk_floats=program.chunk_floats, chunks_in_flight=rng.randint(1, 4)
        )
        self.scheduler = Scheduler(bytes_in_flight=rng.choice([1, 1, 150, 600]), clock=clock)
        self.windows = windows[: program.count]
        for window, leaves in zip(windows, GRADIENTS, strict=True):
            fill(self.collectives, window.own, leaves)
        self.ended: set[tuple[str, int]] = set()
        self.main = self._run_main(program)
        self.is_done = False

    def _run_main(self, program: Program) -> Iterator[None]:
        for number in range(program.count):
            window, priority = self.windows[number], program.priorities[number]
            self._add(("reduce", number), self.collectives.part_reduce(window.own, window.peers), priority)
            yield
            if program.exchanges[number] is not None:
                yield from self._exchange(program.exchanges[number], number)
            broadcast = self.collectives.part_broadcast(window.own, window.peers, partial(double, window.own))
            self._add(
                ("update", number),
                broadcast,
                priority,
                lambda number=number: ("reduce", number) in self.ended,
            )
            while program.waits[number] is not None and ("update", program.waits[number]) not in self.ended:
                yield
        for number in range(program.count):
            while ("update", number) not in self.ended:
                yield
        self.is_done = True
        yield

    def _exchange(self, kind: str, number: int) -> Iterator[None]:
        """Let every rank know what all others have, or have for it."""
        rank, size = self.collectives.communicator.rank, self.collectives.communicator.size
        if kind == "gather":
            own = self.collectives.tree.leaves_of(rank)
            got = np.where(np.isin(np.arange(LEAVES), own), np.arange(LEAVES), -1)
            job, expected = self.collectives.all_gather_leaves(got), np.arange(LEAVES)
        else:
            got = np.full((size, 1), -1)
            job = self.collectives.all_to_all(10 * rank + np.arange(size).reshape(size, 1), got)
            expected = 10 * np.arange(size).reshape(size, 1) + rank
        self._add((kind, number), job, -2)
        while (kind, number) not in self.ended:
            yield
        np.testing.assert_array_equal(got, expected)

    def _add(
        self, key: tuple[str, int], job: Job, priority: int, may_start: Callable[[], bool] | None = None
    ) -> None:
        def end(error: BaseException | None) -> None:
            if error is not None:
                raise error
            self.ended.add(key)

        self.scheduler.add(job, end, priority=priority, may_start=may_start)


def make_windows(communicator: Communicator) -> list[Window]:
    """Return a buffer for each of GRADIENTS, which ranks of the same host can read."""
    floats = Tree.of(communicator.size, LEAVES).padded(FLOATS)
    return [communicator.share(floats) or Window(np.zeros(floats, np.float32), {}) for _ in GRADIENTS]


def double(buffer: npt.NDArray[np.float32], part: slice) -> Job:
    """Update a part of a strip bit by bit."""
    middle = (part.start + part.stop) // 2
    for piece in (slice(part.start, middle), slice(middle, part.stop)):
        buffer[piece] *= 2
        yield None


def fill(collectives: Collectives, buffer: npt.NDArray[np.float32], leaves: npt.NDArray[np.float32]) -> None:
    """Leave in a buffer what backward leaves: the sum of the rank's own leaves."""
    held = collectives.tree.leaves_of(collectives.communicator.rank)
    buffer[:FLOATS] = tree_sum(leaves[held.start : held.stop])


def simulate(seed: int) -> None:
    """Advance main and communication threads of all ranks in random order, at random speeds."""
    rng = random.Random(seed)
    now, events = 0.0, 0
    program = Program(rng)
    made = run_ranks(
        rng.randint(2, 5), lambda inner: (inner, make_windows(inner)), ranks_per_host=rng.choice([1, 2, 5])
    )
    ranks = [Rank(inner, windows, program, rng, lambda: now) for inner, windows in made]
    turns = [(rank, is_main) for rank in ranks for is_main in (True, False)]
    weights = [rng.choice([1, 1, 1, 8]) for _ in turns]
    while not all(rank.is_done for rank in ranks):
        for rank, is_main in rng.choices(turns, weights, k=50):
            if rank.is_done:
                continue
            if is_main:
                next(rank.main)
            else:
                rank.scheduler.turn()
            now += STALL_S / 50
            events += 1
        assert events < 50_000, f"seed {seed}: the ranks wait for each other"
    for rank in ranks:
        assert [window.own[:FLOATS].tobytes() for window in rank.windows] == UPDATED[: program.count]


@pytest.mark.parametrize("part", range(10))
def test_no_order_makes_a_deadlock_or_changes_a_bit(part: int) -> None:
    for seed in range(100 * part, 100 * (part + 1)):
        simulate(seed)


@pytest.mark.parametrize("ranks_per_host", [1, 2, 4])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_threads_with_random_delays_end_with_the_right_bits(size: int, ranks_per_host: int) -> None:
    rng = random.Random(size)

    def delay() -> None:
        time.sleep(rng.choice([0.0, 0.0, 0.0, 0.0005, 0.001]))

    def work(communicator: Communicator) -> list[bytes]:
        collectives = Collectives(communicator, Tree.of(size, LEAVES), chunk_floats=64)
        queue = CommThread(
            bytes_in_flight=500, spare_core=communicator.rank == 1, patient=communicator.rank == 2
        )
        windows, got = make_windows(communicator), []
        for repetition in range(8):
            updates: list[Request] = []
            for number, window in enumerate(windows):
                fill(collectives, window.own, GRADIENTS[number])
                delay()
                priority = (number * 5 + repetition) % 4
                reduce = collectives.part_reduce(window.own, window.peers)
                reduced = queue.submit(reduce, priority=priority)
                delay()
                broadcast = collectives.part_broadcast(window.own, window.peers)
                updates.append(queue.submit(broadcast, priority=priority, after=reduced))
            for update in updates:
                update.wait()
            got += [window.own[:FLOATS].tobytes() for window in windows]
        queue.close()
        return got

    assert run_ranks(size, work, delay, ranks_per_host=ranks_per_host) == [SUMS * 8] * size


class Wire(Communicator):
    """Rank 0 of 2, whose messages all complete when the test says so; it notes what was posted."""

    rank, size = 0, 2

    def __init__(self) -> None:
        self.posted: list[int] = []
        self.is_open = False

    def split(self, color: int) -> Communicator:
        return self

    def post(self, sends: Sequence[Message], receives: Sequence[Message]) -> Transfer:
        self.posted += [message.tag for message in sends]
        return LateTransfer(_Complete(), lambda: self.is_open)

    def abort(self, code: int) -> NoReturn:
        raise SystemExit(code)

    def job(self, tag: int, rounds: int, floats: int = 25) -> Job:
        for _ in range(rounds):
            yield Round(self, [Message(1, tag, np.zeros(floats, np.float32))], max_pending=99)


class _Complete(Transfer):
    def test(self) -> bool:
        return True

    def wait(self) -> None:
        pass


def drain(scheduler: Scheduler) -> None:
    while scheduler.turn():
        pass


def test_an_urgent_job_starts_whatever_is_on_its_way_and_the_others_make_room() -> None:
    wire = Wire()
    scheduler = Scheduler(bytes_in_flight=300, clock=lambda: 0.0)
    scheduler.add(wire.job(7, 6), lambda _: None, priority=9)
    drain(scheduler)
    assert wire.posted == [7] * 3
    scheduler.add(wire.job(1, 4), lambda _: None, priority=1)
    drain(scheduler)
    assert wire.posted == [7] * 3 + [1] * 3
    wire.is_open = True
    drain(scheduler)
    assert wire.posted == [7] * 3 + [1] * 4 + [7] * 3
    assert not scheduler.busy


def test_a_job_that_has_stalled_holds_up_no_other() -> None:
    wire, now = Wire(), [0.0]
    scheduler = Scheduler(bytes_in_flight=300, clock=lambda: now[0])
    scheduler.add(wire.job(1, 4), lambda _: None, priority=1)
    scheduler.add(wire.job(7, 6), lambda _: None, priority=9)
    drain(scheduler)
    assert wire.posted == [1] * 3
    now[0] = STALL_S
    drain(scheduler)
    assert wire.posted == [1] * 3 + [7] * 3


def test_a_round_larger_than_the_limit_goes_alone() -> None:
    wire = Wire()
    scheduler = Scheduler(bytes_in_flight=300, clock=lambda: 0.0)
    scheduler.add(wire.job(1, 2, floats=1000), lambda _: None)
    drain(scheduler)
    assert wire.posted == [1]


def test_equal_priorities_go_in_the_order_of_submission() -> None:
    wire = Wire()
    scheduler = Scheduler(bytes_in_flight=100, clock=lambda: 0.0)
    for tag in (3, 1, 2):
        scheduler.add(wire.job(tag, 2), lambda _: None, priority=5)
    wire.is_open = True
    drain(scheduler)
    assert wire.posted == [3, 3, 1, 1, 2, 2]


def test_all_jobs_end_even_where_on_failure_raises() -> None:
    def failing() -> Job:
        raise ConnectionError("the link is down")
        yield None

    def on_failure(_: BaseException) -> NoReturn:
        raise OSError("nobody reads stderr")

    scheduler, ended = Scheduler(on_failure=on_failure), list[BaseException | None]()
    for job in (failing(), iter(())):
        scheduler.add(job, ended.append)
    with pytest.raises(OSError, match="nobody reads"):
        scheduler.turn()
    scheduler.add(iter(()), ended.append)
    assert [str(error) for error in ended] == ["the link is down"] * 3
    assert not scheduler.busy


@pytest.mark.parametrize("make", [CommThread, InlineCommThread])
def test_spans_tell_of_jobs_and_their_rounds(make: Any) -> None:
    def work(communicator: Communicator) -> list[tuple[str, float, float, dict[str, Any]]]:
        spans: list[tuple[str, float, float, dict[str, Any]]] = []
        collectives = Collectives(communicator, Tree.of(2, LEAVES), chunk_floats=64)
        queue = make(on_span=lambda *span: spans.append(span))
        buffer = np.zeros(collectives.tree.padded(FLOATS), np.float32)
        queue.submit(collectives.part_reduce(buffer), name="reduce fc6", priority=3).wait()
        queue.close()
        return spans

    before = time.perf_counter()
    for rank, spans in enumerate(run_ranks(2, work)):
        assert [about["kind"] for *_, about in spans] == ["exchange", "exchange", "job"]
        assert {name for name, *_ in spans} == {"reduce fc6"}
        assert all(before <= start <= end <= time.perf_counter() for _, start, end, _ in spans)
        assert [about["bytes"] for *_, about in spans] == [192, 256, 448]
        assert [about["priority"] for *_, about in spans] == [3, 3, 3]
        assert [about["partner"] for *_, about in spans[:2]] == [1 - rank] * 2


def test_blocked_seconds_are_kept_by_the_name_of_the_job() -> None:
    def slow() -> Job:
        time.sleep(0.01)
        yield None

    queue = InlineCommThread()
    queue.submit(slow(), name="update fc6").wait()
    queue.submit(iter(()), name="gather loss").wait()
    assert queue.blocked_by_name["update fc6"] >= 0.01 > queue.blocked_by_name["gather loss"] >= 0
    assert queue.blocked_seconds == sum(queue.blocked_by_name.values())


def test_a_job_that_waits_for_another_holds_up_none_behind_it() -> None:
    wire, may_start = Wire(), [False]
    scheduler = Scheduler(clock=lambda: 0.0)
    scheduler.add(wire.job(1, 1), lambda _: None, priority=1, may_start=lambda: may_start[0])
    scheduler.add(wire.job(7, 1), lambda _: None, priority=9)
    drain(scheduler)
    assert wire.posted == [7]
    may_start[0] = True
    drain(scheduler)
    assert wire.posted == [7, 1]


def test_what_counts_as_a_stall_is_the_time_since_the_last_progress() -> None:
    wire, now = Wire(), [50.0]
    scheduler = Scheduler(bytes_in_flight=300, clock=lambda: now[0])
    scheduler.add(wire.job(1, 4), lambda _: None, priority=1)
    scheduler.add(wire.job(7, 6), lambda _: None, priority=9)
    drain(scheduler)
    now[0] += 0.9 * STALL_S
    drain(scheduler)
    assert wire.posted == [1] * 3
    now[0] += 0.2 * STALL_S
    drain(scheduler)
    assert wire.posted == [1] * 3 + [7] * 3


def test_a_turn_says_whether_it_did_something() -> None:
    def failing() -> Job:
        yield None
        raise ConnectionError("the link is down")

    wire, ended = Wire(), list[BaseException | None]()
    scheduler = Scheduler(clock=lambda: 0.0)
    scheduler.add(wire.job(1, 1), ended.append)
    assert [scheduler.turn() for _ in range(3)] == [True, False, False]  # posted; it has not come
    wire.is_open = True
    assert [scheduler.turn() for _ in range(2)] == [True, False]
    assert ended == [None]
    scheduler.add(failing(), ended.append)
    assert [scheduler.turn() for _ in range(3)] == [True, True, False]
    assert isinstance(ended[1], ConnectionError)


def test_spans_of_a_job_begin_when_it_may_start() -> None:
    now, may_start = [1.0], [False]
    spans: list[tuple[str, float, float]] = []
    scheduler = Scheduler(clock=lambda: now[0], on_span=lambda name, a, b, _: spans.append((name, a, b)))
    scheduler.add(iter((None,)), lambda _: None, name="at once")
    scheduler.add(iter((None,)), lambda _: None, name="later", may_start=lambda: may_start[0])
    now[0] = 2.0
    drain(scheduler)
    may_start[0], now[0] = True, 5.0
    assert scheduler.turn()
    now[0] = 7.0
    drain(scheduler)
    assert spans == [("at once", 1.0, 2.0), ("later", 5.0, 7.0)]


def test_equal_jobs_share_the_limit_and_an_empty_wire_takes_a_message_of_any_size() -> None:
    wire = Wire()
    scheduler = Scheduler(bytes_in_flight=200, clock=lambda: 0.0)
    scheduler.add(wire.job(1, 1), lambda _: None)
    scheduler.add(wire.job(2, 1), lambda _: None)
    scheduler.add(wire.job(3, 1, floats=1000), lambda _: None)
    drain(scheduler)
    assert wire.posted == [1, 2]  # 100 bytes each, exactly the limit
    wire.is_open = True
    drain(scheduler)
    assert wire.posted == [1, 2, 3]


def test_progress_of_a_turn_is_progress_though_the_job_was_added_long_before() -> None:
    wire, now = Wire(), [50.0]
    scheduler = Scheduler(bytes_in_flight=300, clock=lambda: now[0])
    scheduler.add(wire.job(1, 4), lambda _: None, priority=1)
    scheduler.add(wire.job(7, 6), lambda _: None, priority=9)
    now[0] += 0.9 * STALL_S
    drain(scheduler)
    now[0] += 0.2 * STALL_S
    drain(scheduler)
    assert wire.posted == [1] * 3


def test_jobs_that_are_abandoned_end_at_once_and_their_messages_settle_when_they_have_failed() -> None:
    class Failing(Wire):
        def post(self, sends: Sequence[Message], receives: Sequence[Message]) -> Transfer:
            return LateTransfer(_Lost(), lambda: self.is_open)

    class _Lost(_Complete):
        def test(self) -> bool:
            raise RankLostError("rank 1 is lost")

    for wire in (Wire(), Failing()):
        scheduler, ended = Scheduler(clock=lambda: 0.0), list[BaseException | None]()
        scheduler.add(wire.job(1, 3), ended.append)
        drain(scheduler)
        error = RankLostError("rank 1 is lost")
        scheduler.abandon(error)
        scheduler.add(wire.job(2, 1), ended.append)
        assert ended == [error, error]
        assert not scheduler.busy
        assert not scheduler.settle()
        wire.is_open = True
        assert scheduler.settle()
        assert scheduler.settle()
