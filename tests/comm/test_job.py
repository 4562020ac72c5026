"""A round knows how much it moves, and with whom; a job may be any iterator of rounds."""

import numpy as np
import pytest

from comm.communicator import Message
from comm.job import Job, Round
from comm.scheduler import run_job
from comm.threads import run_ranks, single_rank

COMMUNICATOR = single_rank()


def message(peer: int, floats: int) -> Message:
    return Message(peer, 1, np.zeros(floats, np.float32))


def test_bytes_are_those_of_the_direction_that_moves_more() -> None:
    sends, receives = [message(1, 3), message(2, 4)], [message(1, 5)]
    assert Round(COMMUNICATOR, sends, receives).wire_bytes == 28
    assert Round(COMMUNICATOR, receives, sends).wire_bytes == 28
    assert Round(COMMUNICATOR, receives).bytes == 20
    assert Round(COMMUNICATOR).bytes == 0


def test_bytes_read_in_shared_memory_are_not_on_the_wire() -> None:
    moved = Round(COMMUNICATOR, [message(1, 1)], bytes_read=100)
    assert (moved.wire_bytes, moved.bytes) == (4, 104)


def test_the_partner_is_the_sender_or_else_the_receiver() -> None:
    assert Round(COMMUNICATOR, [message(1, 1)], [message(2, 1)]).partner == 2
    assert Round(COMMUNICATOR, [message(1, 1)]).partner == 1


def test_then_runs_in_the_order_of_the_rounds_though_later_ones_are_posted_before() -> None:
    def work(communicator) -> list[int]:
        peer, done = 1 - communicator.rank, list[int]()
        received = np.zeros(3)

        def job() -> Job:
            for number in range(3):
                send = Message(peer, number, np.array([float(number)]))
                receive = Message(peer, number, received[number : number + 1])
                yield Round(
                    communicator, [send], [receive], lambda number=number: done.append(number), max_pending=2
                )
                yield None

        run_job(job())
        assert received.tolist() == [0.0, 1.0, 2.0]
        return done

    assert run_ranks(2, work) == [[0, 1, 2]] * 2


def test_run_job_raises_what_the_job_raised() -> None:
    def job() -> Job:
        yield None
        raise ConnectionError("the link is down")

    with pytest.raises(ConnectionError, match="the link is down"):
        run_job(job())
