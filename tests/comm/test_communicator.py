"""What every communicator does with messages alone, whatever carries them."""

from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

import numpy as np
import pytest

from comm.communicator import CONTROL_TAG, Communicator, Message, Transfer
from comm.threads import run_ranks

T = TypeVar("T")


class Plain(Communicator):
    """A communicator with no more than the abstract methods; it notes what is posted."""

    def __init__(self, inner: Communicator):
        self.rank, self.size, self._inner = inner.rank, inner.size, inner
        self.posted: list[Message] = []

    def split(self, color: int) -> Communicator:
        return Plain(self._inner.split(color))

    def post(self, sends: Sequence[Message], receives: Sequence[Message]) -> Transfer:
        self.posted += [*sends, *receives]
        return self._inner.post(sends, receives)

    def abort(self, code: int) -> NoReturn:
        self._inner.abort(code)


def on_each_rank(size: int, work: Callable[[Plain], T]) -> list[T]:
    return run_ranks(size, lambda inner: work(Plain(inner)))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_gather_objects_takes_the_logarithm_of_the_ranks_in_rounds(size: int) -> None:
    def work(communicator: Plain) -> int:
        values = communicator.gather_objects("x" * 1000 * communicator.rank)
        assert values == ["x" * 1000 * rank for rank in range(size)]
        assert {message.tag for message in communicator.posted} <= {CONTROL_TAG}
        return len(communicator.posted)

    assert on_each_rank(size, work) == [4 * (size - 1).bit_length()] * size


def test_send_receive_returns_when_the_messages_have_come() -> None:
    def work(communicator: Plain) -> float:
        received = np.zeros(1)
        peer = 1 - communicator.rank
        sent = np.array([communicator.rank + 1.0])
        communicator.send_receive([Message(peer, 3, sent)], [Message(peer, 3, received)])
        return float(received[0])

    assert on_each_rank(2, work) == [2.0, 1.0]


def test_a_communicator_shares_no_memory_unless_it_can() -> None:
    assert on_each_rank(2, lambda communicator: communicator.share(8)) == [None, None]


def test_tags_are_those_that_mpi_takes() -> None:
    def work(communicator: Plain) -> set[int]:
        communicator.gather_objects(communicator.rank)
        return {message.tag for message in communicator.posted}

    assert on_each_rank(2, work) == [{0}, {0}]  # the least; collectives take those above it
    assert CONTROL_TAG == 0
