"""Shared memory and a rank that reads late, at every moment: nobody writes too early."""

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest

from comm.collectives import Collectives
from comm.communicator import Communicator, Window
from comm.job import Job
from comm.scheduler import Scheduler
from comm.threads import run_ranks
from comm.tree import Tree, tree_sum
from tests.comm.late import Late
from tests.comm.sums import leaf_gradients, naive_tree

LEAVES, FLOATS = 8, 300
MOMENTS = 24
"""More than a rank has rounds: at the last of them nobody is late."""


class Reader:
    """Lets the first messages of one rank come, and holds back the others until `is_late` is over."""

    def __init__(self, in_time: int):
        self._left, self.is_late = in_time, True

    def arrives(self) -> bool:
        self._left -= self.is_late
        return not self.is_late or self._left >= 0


class Rank:
    """One rank, which overwrites its buffer the moment its job has ended, as the next step does."""

    def __init__(self, communicator: Communicator, window: Window):
        self.collectives = Collectives(communicator, Tree.of(communicator.size, LEAVES), chunk_floats=8)
        self.window = window
        self.kept: npt.NDArray[np.float32] | None = None
        self._scheduler = Scheduler(clock=lambda: 0.0)

    def start(self, job: Job) -> None:
        self._scheduler.add(job, self._end)

    def go_on(self) -> bool:
        """Do all that can be done; return whether there was something."""
        count = 0
        while self._scheduler.turn():
            count += 1
        return count > 0

    def _end(self, error: BaseException | None) -> None:
        if error is not None:
            raise error
        self.kept = self.window.own.copy()
        self.window.own[:] = np.nan


def run_with_one_late(size: int, late: int, in_time: int, start: Callable[[Rank], Job]) -> list[Rank]:
    """Run a job on all ranks; those that need nothing of the late one end before it reads on."""
    floats = Tree.of(size, LEAVES).padded(FLOATS)
    reader = Reader(in_time)

    def make(inner: Communicator) -> Rank:
        window = inner.share(floats)
        assert window is not None
        return Rank(Late(inner, reader.arrives) if inner.rank == late else inner, window)

    ranks = run_ranks(size, make, ranks_per_host=size)
    for rank in ranks:
        rank.start(start(rank))
    for reader.is_late in (True, False):
        while any(rank.go_on() for rank in ranks):
            pass
    return ranks


every_late_rank = pytest.mark.parametrize(
    ("size", "late"), [(size, late) for size in (2, 3, 4, 5) for late in range(size)]
)


@every_late_rank
def test_a_rank_that_reads_late_sums_what_the_others_had(size: int, late: int) -> None:
    leaves = leaf_gradients(LEAVES, FLOATS)

    def start(rank: Rank) -> Job:
        held = rank.collectives.tree.leaves_of(rank.collectives.communicator.rank)
        rank.window.own[:FLOATS] = tree_sum(leaves[held.start : held.stop])
        return rank.collectives.part_reduce(rank.window.own, rank.window.peers)

    for in_time in range(MOMENTS):
        ranks = run_with_one_late(size, late, in_time, start)
        summed = np.full(ranks[0].window.own.size, np.nan, np.float32)
        for number, rank in enumerate(ranks):
            assert rank.kept is not None, "the ranks wait for each other"
            for strip in rank.collectives.tree.strips_of(number, summed.size):
                summed[strip] = rank.kept[strip]
        assert summed[:FLOATS].tobytes() == naive_tree(leaves).tobytes(), f"late after {in_time} messages"


@every_late_rank
def test_a_rank_that_reads_late_copies_what_the_others_had(size: int, late: int) -> None:
    whole = np.arange(Tree.of(size, LEAVES).padded(FLOATS), dtype=np.float32)

    def start(rank: Rank) -> Job:
        rank.window.own[:] = np.nan
        for strip in rank.collectives.tree.strips_of(rank.collectives.communicator.rank, whole.size):
            rank.window.own[strip] = whole[strip]
        return rank.collectives.part_broadcast(rank.window.own, rank.window.peers)

    for in_time in range(MOMENTS):
        for rank in run_with_one_late(size, late, in_time, start):
            assert rank.kept is not None, "the ranks wait for each other"
            assert (rank.kept == whole).all(), f"late after {in_time} messages"


class Trainer(Rank):
    """Sums and spreads in turn, as a bucket does step by step; no job waits for its readers."""

    def __init__(self, communicator: Communicator, gradients: Window, weights: Window):
        super().__init__(communicator, gradients)
        self.weights, self.seen = weights, list[bytes]()

    def begin_step(self) -> None:
        """Overwrite the gradients, and sum them."""
        held = self.collectives.tree.leaves_of(self.collectives.communicator.rank)
        self.window.own[:] = np.nan
        self.window.own[:FLOATS] = tree_sum(gradients_of(len(self.seen))[held.start : held.stop])
        own, peers = self.window.own, self.window.peers
        self._scheduler.add(self.collectives.part_reduce(own, peers, until_read=False), self._summed)

    def _summed(self, _: BaseException | None) -> None:
        own, peers = self.weights.own, self.weights.peers
        update = self.collectives.part_broadcast(own, peers, self._update, until_read=False)
        self._scheduler.add(update, self._spread)

    def _update(self, part: slice) -> Job:
        self.weights.own[part] = self.window.own[part]
        yield None

    def _spread(self, error: BaseException | None) -> None:
        if error is not None:
            raise error
        self.seen.append(self.weights.own[:FLOATS].tobytes())
        if len(self.seen) < STEPS:
            self.begin_step()


STEPS = 3


def gradients_of(step: int) -> npt.NDArray[np.float32]:
    return leaf_gradients(LEAVES, FLOATS) * np.float32(step + 1)


@every_late_rank
def test_a_rank_that_reads_late_holds_up_the_next_step_and_not_the_job(size: int, late: int) -> None:
    floats = Tree.of(size, LEAVES).padded(FLOATS)
    sums = [naive_tree(gradients_of(step)).tobytes() for step in range(STEPS)]

    def make(inner: Communicator, reader: Reader) -> Trainer:
        gradients, weights = inner.share(floats), inner.share(floats)
        assert gradients is not None and weights is not None
        return Trainer(Late(inner, reader.arrives) if inner.rank == late else inner, gradients, weights)

    for in_time in range(STEPS * MOMENTS):
        reader = Reader(in_time)
        ranks = run_ranks(size, partial(make, reader=reader), ranks_per_host=size)
        for rank in ranks:
            rank.begin_step()
        for reader.is_late in (True, False):
            while any(rank.go_on() for rank in ranks):
                pass
        for rank in ranks:
            assert rank.seen == sums, f"late after {in_time} messages"
