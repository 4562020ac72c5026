"""A rank that keeps the others waiting is named."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from comm.comm_thread import InlineCommThread
from comm.communicator import Waits
from comm.threads import single_rank
from engine.run.late_ranks import LATE_S, LateWatch, Process, StoppedWatch, ranks_here


@pytest.fixture
def stopped():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    os.kill(process.pid, signal.SIGSTOP)
    yield replace(Process.own(), number=process.pid)
    process.kill()
    process.wait()


def until(is_so):
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def waited(queue, processes, rank=0):
    """Return what is said in a wait of the queue, and when it is over."""
    said = []
    watch = LateWatch(queue, rank, processes, said.append)
    with queue.blocked("conv1"):
        for passed in (0.0, LATE_S - 1, LATE_S, LATE_S + 5):
            watch.look(passed)
    watch.look(LATE_S + 7)
    return said


def test_a_stopped_rank_is_named_once_and_it_is_said_when_it_goes_on(stopped):
    until(stopped.is_stopped)
    assert waited(InlineCommThread(), [Process.own(), stopped]) == [
        "rank 0 has waited 10 s for rank 1, which is stopped (SIGCONT lets it go on)",
        "rank 0 goes on after 17 s",
    ]
    assert len(waited(InlineCommThread(), [stopped, Process.own()], rank=1)) == 2


def test_a_late_rank_that_cannot_be_seen_has_no_name():
    far = replace(Process.own(), machine="elsewhere", number=1)
    said = waited(InlineCommThread(), [Process.own(), far])
    assert said[0].startswith("rank 0 has waited 10 s for a rank that is late")


def test_of_several_ranks_that_wait_one_speaks():
    assert not waited(InlineCommThread(), [Process.own(), Process.own()], rank=1)


def test_a_wait_in_an_agreement_counts_too():
    said, control = [], single_rank()
    watch = LateWatch(InlineCommThread(), 0, [Process.own()], said.append, control=control)
    watch.look(0.0)
    with control.waits.waiting():
        for passed in (1.0, 1.0 + LATE_S):
            watch.look(passed)
    with control.waits.waiting():  # another one
        watch.look(2.0 + LATE_S)
    assert [line.partition(" for ")[0] for line in said] == [
        "rank 0 has waited 10 s",
        "rank 0 goes on after 11 s",
    ]


def test_many_short_waits_are_no_long_one():
    queue, said = InlineCommThread(), []
    watch = LateWatch(queue, 0, [Process.own()], said.append)
    for second in range(30):
        with queue.blocked("conv1"):
            watch.look(second)
    assert not said


def test_a_rank_that_is_stopped_for_too_long_is_ended_by_one_of_the_others(stopped):
    until(stopped.is_stopped)
    queue, said = InlineCommThread(), []
    processes = [stopped, Process.own(), Process.own()]
    watches = [LateWatch(queue, rank, processes, said.append, lost_after=30.0) for rank in (1, 2)]
    with queue.blocked("conv1"):
        for passed in (0.0, 29.0):
            for watch in watches:
                watch.look(passed)
        assert stopped.is_stopped()
        watches[1].look(30.0)  # it is for rank 1 to act
        assert stopped.is_stopped()
        watches[0].look(30.0)
    until(lambda: not stopped.is_stopped())
    assert said == [
        "rank 1 has waited 29 s for rank 0, which is stopped (SIGCONT lets it go on)",
        "rank 0 stopped for 30 s: ended, and lost",
    ]


class Survivor:
    """A communicator of ranks that go on without others."""

    survives, size = True, 3

    def __init__(self):
        self.waits = Waits()


def test_a_rank_that_is_stopped_outside_of_the_loop_is_named_and_ended(stopped):
    said, world = [], Survivor()
    here = {0: stopped, 1: Process.own(), 2: Process.own()}
    watches = [StoppedWatch(lambda: world, said.append, here=lambda: here, rank=rank) for rank in (1, 2)]
    until(stopped.is_stopped)
    with world.waits.waiting():
        for passed in (0.0, LATE_S, LATE_S + 1, 59.0):
            for watch in watches:
                watch.look(passed)
        with watches[0].paused():
            watches[0].look(70.0)
        watches[0].look(80.0)
        assert stopped.is_stopped()
        watches[0].look(140.0)
    until(lambda: not stopped.is_stopped())
    assert said == [
        "rank 1 has waited 10 s for rank 0, which is stopped (SIGCONT lets it go on)",
        "rank 1 has waited 60 s for rank 0, which is stopped (SIGCONT lets it go on)",
        "rank 0 stopped for 60 s: ended, and lost",
    ]


def test_ranks_are_found_on_their_host_and_what_they_start_is_none(monkeypatch):
    job = {"PMIX_NAMESPACE": f"test-{os.getpid()}"}
    sleeps = "import subprocess, sys; print(flush=True); subprocess.run([sys.executable, '-c', 'input()'])"
    assert not ranks_here()
    monkeypatch.setenv("PMIX_NAMESPACE", job["PMIX_NAMESPACE"])
    with subprocess.Popen(
        [sys.executable, "-c", sleeps], env={**os.environ, **job, "OMPI_COMM_WORLD_RANK": "3"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        process.stdout.readline()
        until(lambda: psutil.Process(process.pid).children())
        found = ranks_here()
        process.communicate(b"\n")
    assert {rank: each.number for rank, each in found.items()} == {3: process.pid}
