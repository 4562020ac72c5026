"""The cluster of threads: messages, small collectives, and what happens when a rank fails."""

import random
import time
from collections.abc import Callable

import numpy as np
import pytest

from comm import threads
from comm.communicator import Message
from comm.threads import PeerError, ThreadCommunicator, run_ranks, single_rank

every_size = pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 9])


def random_delays(seed: int = 0) -> Callable[[], None]:
    rng = random.Random(seed)
    return lambda: time.sleep(rng.choice([0.0, 0.0, 0.0005, 0.001]))


@every_size
def test_gather_objects_gives_all_values_in_rank_order_on_all_ranks(size: int) -> None:
    gathered = run_ranks(
        size, lambda c: c.gather_objects({"rank": c.rank, "text": "x" * c.rank}), random_delays()
    )
    assert gathered == [[{"rank": r, "text": "x" * r} for r in range(size)]] * size


@every_size
def test_no_rank_has_gathered_before_the_last_has_come(size: int) -> None:
    arrived = []

    def work(communicator: ThreadCommunicator) -> int:
        time.sleep(0.002 * communicator.rank)
        arrived.append(communicator.rank)
        communicator.gather_objects(None)
        return len(arrived)

    assert run_ranks(size, work) == [size] * size


def test_split_groups_ranks_by_color_and_keeps_their_order() -> None:
    def work(communicator: ThreadCommunicator) -> tuple[int, int, list[int]]:
        half = communicator.split(communicator.rank % 2)
        return half.rank, half.size, half.gather_objects(communicator.rank)

    expected = [(rank // 2, 3 - rank % 2, [r for r in range(5) if r % 2 == rank % 2]) for rank in range(5)]
    assert run_ranks(5, work, random_delays()) == expected


def test_messages_of_two_communicators_do_not_mix() -> None:
    def work(communicator: ThreadCommunicator) -> list[list[str]]:
        twin = communicator.split(0)
        sent, got, twin_got = np.array([1]), np.zeros(1, int), np.zeros(1, int)
        peer = 1 - communicator.rank
        first = communicator.post([Message(peer, 1, sent)], [Message(peer, 1, got)])
        twin.send_receive([Message(peer, 1, sent + 1)], [Message(peer, 1, twin_got)])
        first.wait()
        return [got.tolist(), twin_got.tolist()]

    assert run_ranks(2, work) == [[[1], [2]]] * 2


def test_messages_of_one_tag_arrive_in_order_whatever_is_awaited_first() -> None:
    def work(communicator: ThreadCommunicator) -> list[int]:
        received, peer = np.zeros(3, int), 1 - communicator.rank
        transfers = [
            communicator.post([Message(peer, 7, np.array([i]))], [Message(peer, 7, received[i : i + 1])])
            for i in range(3)
        ]
        for transfer in reversed(transfers):
            transfer.wait()
            assert transfer.test()
        return received.tolist()

    assert run_ranks(2, work, random_delays()) == [[0, 1, 2]] * 2


def test_a_transfer_is_not_complete_before_its_message_comes() -> None:
    def work(communicator: ThreadCommunicator) -> bool:
        if communicator.rank == 0:
            time.sleep(0.02)
            communicator.send_receive([Message(1, 1, np.ones(4))], [])
            return True
        received = np.zeros(4)
        transfer = communicator.post([], [Message(0, 1, received)])
        early = transfer.test()
        transfer.wait()
        return not early and bool(received.all())

    assert run_ranks(2, work) == [True, True]


def test_a_failing_rank_ends_the_others_and_its_error_is_raised() -> None:
    peer_errors = []

    def work(communicator: ThreadCommunicator) -> None:
        if communicator.rank == 1:
            raise ValueError("rank 1 is out of samples")
        try:
            communicator.gather_objects(None)
        except PeerError as error:
            peer_errors.append(error)
            raise

    started = time.monotonic()
    with pytest.raises(ValueError, match="out of samples"):
        run_ranks(4, work)
    assert time.monotonic() - started < 5
    assert len(peer_errors) == 3


def test_abort_ends_all_ranks_with_the_exit_code() -> None:
    def work(communicator: ThreadCommunicator) -> None:
        if communicator.rank == 0:
            communicator.abort(3)
        communicator.gather_objects(None)

    with pytest.raises(SystemExit) as end:
        run_ranks(3, work)
    assert end.value.code == 3


def test_one_rank_alone_needs_no_messages() -> None:
    communicator = single_rank()
    assert communicator.gather_objects("here") == ["here"]
    assert communicator.split(4).size == 1


def test_nobody_sees_a_window_before_the_last_rank_has_shared_its_own() -> None:
    def work(communicator: ThreadCommunicator) -> list[int]:
        time.sleep(0.01 * communicator.rank)
        window = communicator.share(4)
        assert window is not None
        return sorted(window.peers)

    assert run_ranks(3, work, ranks_per_host=3) == [[1, 2], [0, 2], [0, 1]]


def test_ranks_share_no_memory_unless_they_are_put_on_one_host() -> None:
    assert run_ranks(2, lambda communicator: communicator.share(4)) == [None, None]


def test_ranks_that_wait_for_each_other_are_told_for_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_DEADLOCK_S", 0.05)

    def work(communicator: ThreadCommunicator) -> None:
        message = Message(1 - communicator.rank, 5, np.zeros(1))
        communicator.send_receive([], [message])

    with pytest.raises(PeerError, match=r"^rank \d waits for message 0 from rank \d, tag 5$"):
        run_ranks(2, work)
