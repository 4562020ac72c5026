"""Messages that come late: a communicator whose transfers complete when the test says so."""

from collections.abc import Callable, Sequence
from typing import NoReturn

from comm.communicator import Communicator, Message, Transfer


class Late(Communicator):
    """A communicator whose messages come when `arrives` says so."""

    def __init__(self, inner: Communicator, arrives: Callable[[], bool]):
        self.rank, self.size = inner.rank, inner.size
        self._inner, self._arrives = inner, arrives

    def split(self, color: int) -> Communicator:
        return Late(self._inner.split(color), self._arrives)

    def post(self, sends: Sequence[Message], receives: Sequence[Message]) -> Transfer:
        return LateTransfer(self._inner.post(sends, receives), self._arrives)

    def abort(self, code: int) -> NoReturn:
        self._inner.abort(code)


class LateTransfer(Transfer):
    """Messages that have come when both `arrives` and those inside say so."""

    def __init__(self, inner: Transfer, arrives: Callable[[], bool]):
        self._inner, self._arrives = inner, arrives

    def test(self) -> bool:
        return self._arrives() and self._inner.test()

    def wait(self) -> None:
        raise AssertionError("a job never waits")
