"""The interface of a communicator: point-to-point messages, and a gather of small objects."""

import pickle
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, final

import numpy as np
import numpy.typing as npt

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


class Communicator(ABC):
    """A group of ranks, seen by one of them.

    Two messages with the same sender, receiver and tag arrive in the order in which they were posted. All
    ranks make collective calls in the same order. One thread uses a communicator; a second thread makes its
    own by `split(0)`.
    """

    rank: int
    size: int

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

    @abstractmethod
    def abort(self, code: int) -> NoReturn:
        """End all ranks with this exit code. With one rank: raise SystemExit."""

    @final
    def send_receive(self, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        """Send and receive messages; block until all have completed."""
        self.post(sends, receives).wait()

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
