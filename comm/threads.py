"""A communicator whose ranks are threads of one process: for a run on one rank, and for tests."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from comm.communicator import Communicator, Message, Transfer, Window

T = TypeVar("T")
Channel = tuple[Any, int, int, int]  # communicator's name, sender, receiver, tag

_DEADLOCK_S = 60.0  # no rank of the tests waits that long for another, unless they wait for each other


class PeerError(RuntimeError):
    """Another rank has failed, or a message has not come for a minute."""


class ThreadCommunicator(Communicator):
    """One rank; made by `single_rank`, `run_ranks` and `split`."""

    def __init__(self, shared: "_SharedState", name: Any, rank: int, hosts: Sequence[int]):
        self.rank, self.size = rank, len(hosts)
        self._shared, self._name, self._hosts, self._splits, self._windows = shared, name, hosts, 0, 0

    def split(self, color: int) -> "ThreadCommunicator":
        """Make a communicator of the same threads; see `Communicator`."""
        colors = self.gather_objects(color)
        members = [rank for rank in range(self.size) if colors[rank] == color]
        self._splits += 1
        name = (self._name, self._splits, color)
        hosts = [self._hosts[member] for member in members]
        return ThreadCommunicator(self._shared, name, members.index(self.rank), hosts)

    def share(self, floats: int) -> Window | None:
        """Allocate an array and return views of the arrays of the host's other threads."""
        self._windows += 1
        name, own = (self._name, self._windows), np.zeros(floats, np.float32)
        self._shared.arrays[name, self.rank] = own
        self.gather_objects(None)  # a barrier: all arrays are there
        peers = {}
        for rank, host in enumerate(self._hosts):
            if host == self._hosts[self.rank] and rank != self.rank:
                peers[rank] = self._shared.arrays[name, rank].view()
                peers[rank].flags.writeable = False
        return Window(own, peers) if peers else None

    def post(self, sends: Sequence[Message], receives: Sequence[Message]) -> Transfer:
        """Copy each array sent into the receiver's mail."""
        for message in (*sends, *receives):
            assert message.peer != self.rank and message.peer in range(self.size)
            assert message.array.flags.c_contiguous
        for message in sends:
            self._shared.send((self._name, self.rank, message.peer, message.tag), message.array)
        expected = [((self._name, m.peer, self.rank, m.tag), m.array) for m in receives]
        return _ThreadTransfer(self._shared, [(self._shared.expect(c), array) for c, array in expected])

    def abort(self, code: int) -> NoReturn:
        """Make the other ranks raise PeerError where they wait, and `run_ranks` raise SystemExit."""
        error = SystemExit(code)
        self._shared.fail(error)
        raise error


def single_rank() -> ThreadCommunicator:
    """Make a communicator of size 1, for a run without MPI."""
    return ThreadCommunicator(_SharedState(None), "world", rank=0, hosts=[0])


def run_ranks(
    size: int,
    work: Callable[[ThreadCommunicator], T],
    delays: Callable[[], None] | None = None,
    *,
    ranks_per_host: int = 1,
) -> list[T]:
    """Run `work(communicator)` on `size` threads and return its results in rank order.

    When one rank raises, the others raise PeerError where they wait, and the first error is raised here.
    `delays` is called before every message; it may sleep, to vary the order in which messages come. Each
    `ranks_per_host` consecutive ranks can `share` memory.
    """
    shared, hosts = _SharedState(delays), [rank // ranks_per_host for rank in range(size)]
    results: dict[int, T] = {}

    def run(rank: int) -> None:
        try:
            results[rank] = work(ThreadCommunicator(shared, "world", rank, hosts))
        except BaseException as error:  # raised again below, in the caller's thread
            shared.fail(error)

    threads = [threading.Thread(target=run, args=(r,), name=f"rank {r}", daemon=True) for r in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if shared.error is not None:
        raise shared.error
    return [results[rank] for rank in range(size)]


class _SharedState:
    """State shared by the ranks' threads: messages not yet received, windows, and the first error."""

    def __init__(self, delays: Callable[[], None] | None):
        self.error: BaseException | None = None
        self.arrays: dict[tuple[Any, int], npt.NDArray[np.float32]] = {}  # by window and rank
        self._delays = delays
        self._changed = threading.Condition()
        self._mail: dict[tuple[Channel, int], npt.NDArray[Any]] = {}
        self._sent: Counter[Channel] = Counter()
        self._expected: Counter[Channel] = Counter()

    def send(self, channel: Channel, array: npt.NDArray[Any]) -> None:
        if self._delays is not None:
            self._delays()
        copy = array.copy()
        with self._changed:
            self._mail[channel, self._sent[channel]] = copy
            self._sent[channel] += 1
            self._changed.notify_all()

    def expect(self, channel: Channel) -> tuple[Channel, int]:
        """Return the key of a channel's next message: the n-th receive posted gets the n-th message."""
        with self._changed:
            number = self._expected[channel]
            self._expected[channel] += 1
        return channel, number

    def receive(self, wanted: tuple[Channel, int], *, wait: bool) -> npt.NDArray[Any] | None:
        """Remove a message from the mail; None if it has not come and `wait` is false."""
        with self._changed:
            in_time = self._changed.wait_for(
                lambda: wanted in self._mail or self.error is not None, _DEADLOCK_S if wait else 0
            )
            if wanted in self._mail:
                return self._mail.pop(wanted)
            if self.error is not None:
                raise PeerError("another rank has failed") from self.error
            if wait and not in_time:
                (_, sender, receiver, tag), number = wanted
                raise PeerError(f"rank {receiver} waits for message {number} from rank {sender}, tag {tag}")
            return None

    def fail(self, error: BaseException) -> None:
        with self._changed:
            self.error = self.error or error
            self._changed.notify_all()


class _ThreadTransfer(Transfer):
    """Pending receives. Sends complete in `post`, which copies their arrays."""

    def __init__(self, shared: _SharedState, pending: list[tuple[tuple[Channel, int], npt.NDArray[Any]]]):
        self._shared, self._pending = shared, pending

    def test(self) -> bool:
        return self._receive(wait=False)

    def wait(self) -> None:
        self._receive(wait=True)

    def _receive(self, *, wait: bool) -> bool:
        while self._pending:
            wanted, array = self._pending[0]
            content = self._shared.receive(wanted, wait=wait)
            if content is None:
                return False
            assert content.nbytes == array.nbytes, (
                f"{wanted}: {content.nbytes} bytes came, not {array.nbytes}"
            )
            array.reshape(-1).view(np.uint8)[:] = content.reshape(-1).view(np.uint8)
            self._pending.pop(0)
        return True
