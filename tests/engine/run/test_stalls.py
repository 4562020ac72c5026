"""A rank that does not get on says where it is, and the run ends in time."""

import threading

import numpy as np
import pytest

from comm.comm_thread import CommThread
from comm.communicator import Message
from comm.job import Round
from comm.threads import run_ranks, single_rank
from engine.profile.recorder import Recorder
from engine.profile.step_clock import Lap
from engine.run.stalls import SAID_AFTER_S, StallWatch
from layers.work import BACKWARD_DATA


def watch(world, queue, said, *, end_after=600.0, laps=(), recorder=None):
    ended = lambda _world, message: said.append(f"ended: {message}")  # noqa: E731
    return StallWatch(
        world, recorder or Recorder(), queue, laps=list(laps), step=lambda: 6, end_after=end_after,
        say=said.append, end=ended,
    )  # fmt: skip


@pytest.fixture
def queue():
    made = CommThread()
    yield made
    made.close()


def test_it_is_said_once_where_a_rank_is_and_when_it_gets_on(queue):
    said, recorder = [], Recorder()
    recorder.watch(queue)
    recorder.leave("conv2", BACKWARD_DATA, recorder.enter())
    watching = watch(single_rank(), queue, said, recorder=recorder)
    for passed in (0.0, SAID_AFTER_S - 1, SAID_AFTER_S, SAID_AFTER_S + 9):
        watching.look(passed)
    recorder.leave("conv1", BACKWARD_DATA, recorder.enter())
    watching.look(SAID_AFTER_S + 10)
    report, again = said
    assert report.startswith("rank 0 on ")
    assert ": nothing moves for 60 s in step 7; the last pass was backward_data of conv2; " in report
    assert "; the main thread is at engine/run/stalls.py:" in report  # here it looks after itself
    assert "; the communication thread is at comm/comm_thread.py:" in report
    assert again == "rank 0 gets on again after 70 s"


def test_slow_steps_are_no_stall(queue):
    said = []
    watching = watch(single_rank(), queue, said, laps=[Lap(10.0, 0.0, 0.0)] * 5)
    for passed in (0.0, 150.0, 199.0):
        watching.look(passed)
    assert not said
    watching.look(200.0)
    assert len(said) == 1


def test_the_job_and_the_rank_that_it_waits_for_are_named():
    go_on = threading.Event()

    def work(world):
        other = 1 - world.rank
        values = np.zeros(4, np.float32)
        if world.rank == 1:
            assert go_on.wait(20)
            world.send_receive([Message(other, 5, values)], [])
            return []
        said, queue = [], CommThread()
        watching = watch(world, queue, said)

        def job():
            yield Round(world, receives=[Message(other, 5, values)])

        request = queue.submit(job(), name="reduce conv1")
        looker = threading.Timer(0.2, lambda: (watching.look(0.0), watching.look(80.0), go_on.set()))
        looker.start()
        request.wait()
        queue.close()
        looker.join()
        return said

    (report,), _ = run_ranks(2, work)
    assert "; it waits for reduce conv1; reduce conv1 exchanges messages with rank 1; " in report


def test_a_run_that_stays_where_it_is_ends_when_all_had_time_to_speak(queue):
    said = []
    watching = watch(single_rank(), queue, said, end_after=40.0)
    for passed in (0.0, 19.0, 20.0, 39.0):
        watching.look(passed)
    assert len(said) == 1
    watching.look(40.0)
    assert said[1].startswith("ended: rank 0: nothing has moved for 40 s; ")
    said.clear()
    forever = watch(single_rank(), queue, said, end_after=0.0)
    for passed in (0.0, 1e6):
        forever.look(passed)
    assert len(said) == 1
