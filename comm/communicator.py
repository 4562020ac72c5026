"""The interface of a communicator: point-to-point messages, and a gather of small objects."""

import pickle
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn, final

import numpy as np
import numpy.typing as npt

from comm.losses import RankLostError

CONTROL_TAG = 0  # of the main thread's small messages; `Collectives` takes tags above it


@dataclass(frozen=True)
class Message:
    """A C-contiguous array to send to, or to receive from, another rank of the same communicator."""

    peer: int
    tag: int
    array: npt.NDArray[Any]


@dataclass(frozen=True)
class Window:
    """Shared memory of the ranks of one host: buffers of equal length, one a rank."""

    own: npt.NDArray[np.float32]
    peers: Mapping[int, npt.NDArray[np.float32]]
    """Read-only buffers of the communicator's other ranks on this host; those ranks see mine too."""


class Transfer(ABC):
    """Messages in flight. Until they have completed, nobody else may touch their arrays."""

    @abstractmethod
    def test(self) -> bool:
        """Return at once whether all messages have completed."""

    @abstractmethod
    def wait(self) -> None:
        """Block until all messages have completed."""

    def settle(self) -> bool:
        """Return whether all messages have completed or failed: nobody touches their arrays any more."""
        try:
            return self.test()
        except RankLostError:
            return True


class Waits:
    """What others may look at: whether a thread waits for other ranks in a call that blocks."""

    def __init__(self) -> None:
        self.count = 0
        """How many such calls there have been."""
        self._depth = 0
        self._lock = threading.Lock()

    @property
    def is_one(self) -> bool:
        """Whether one is going on."""
        return self._depth > 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count a call; those inside of it belong to it."""
        with self._lock:
            self.count += self._depth == 0
            self._depth += 1
        try:
            yield
        finally:
            with self._lock:
                self._depth -= 1


class Communicator(ABC):
    """A group of ranks, seen by one of them.

    Two messages with the same sender, receiver and tag arrive in the order in which they were posted. All
    ranks make collective calls in the same order. One thread uses a communicator; a second thread makes its
    own by `split(0)`.
    """

    rank: int
    size: int

    @cached_property
    def waits(self) -> Waits:
        """Its calls that block, and those of what was split from it."""
        return Waits()

    @abstractmethod
    def split(self, color: int) -> "Communicator":
        """Make a communicator of the ranks that pass the same color, in their order here (collective)."""

    @abstractmethod
    def post(self, sends: Sequence[Message], receives: Sequence[Message]) -> Transfer:
        """Start messages and return at once. A send and its receive have the same number of bytes."""

    def share(self, floats: int) -> Window | None:
        """Allocate zeros, float32 [floats], that other ranks of the host can read (collective).

        Return None where no other rank can read them: the caller then allocates private memory.
        """
        return None

    @property
    def survives(self) -> bool:
        """Whether the other ranks can go on when one dies: see `survivors`."""
        return False

    def revoke(self) -> None:
        """Let everything that any rank communicates end with RankLostError, here and wherever it was split.

        Any thread may call it, on any rank that is left; it returns at once.
        """
        raise NotImplementedError

    def survivors(self) -> "Communicator":
        """Make a communicator of the ranks that are left, in their order here (collective among them).

        It takes the place of the communicator of all ranks, which is revoked.

        Raises
        ------
        RankLostError
            A rank cannot do that: all ranks would have to be started again.
        """
        raise RankLostError(f"rank {self.rank}: ranks of this kind do not survive others")

    def agreed(self, value: bool) -> bool:
        """Return whether all ranks say so (collective).

        Where ranks die meanwhile, all that are left return the same, which may be false.
        """
        return all(self.gather_objects(value))

    @abstractmethod
    def abort(self, code: int) -> NoReturn:
        """End all ranks with this exit code. With one rank: raise SystemExit."""

    @final
    def send_receive(self, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        """Send and receive messages; block until all have completed."""
        transfer = self.post(sends, receives)
        with self.waits.waiting():
            transfer.wait()

    @final
    def gather_objects(self, value: Any) -> list[Any]:
        """Gather one small picklable value from each rank, in rank order, on all ranks (collective)."""
        known = {self.rank: value}
        distance = 1
        while distance < self.size:  # after each round every rank knows twice as many values
            to, source = (self.rank + distance) % self.size, (self.rank - distance) % self.size
            known |= self._swap_objects(to, known, source)
            distance *= 2
        return [known[rank] for rank in range(self.size)]

    def _swap_objects(self, to: int, value: dict[int, Any], source: int) -> dict[int, Any]:
        outgoing = np.frombuffer(pickle.dumps(value), np.uint8)
        length, incoming_length = np.array([outgoing.size]), np.empty(1, np.int64)
        self.send_receive([Message(to, CONTROL_TAG, length)], [Message(source, CONTROL_TAG, incoming_length)])
        incoming = np.empty(incoming_length[0], np.uint8)
        self.send_receive([Message(to, CONTROL_TAG, outgoing)], [Message(source, CONTROL_TAG, incoming)])
        received: dict[int, Any] = pickle.loads(incoming.tobytes())
        return received
