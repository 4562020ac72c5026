"""The contract of a communicator: point-to-point messages, and the small collectives made of them."""

import pickle
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, final

import numpy as np
import numpy.typing as npt

CONTROL_TAG = 0  # for the small collectives below; the others' tags are larger


@dataclass(frozen=True)
class Message:
    """A C-contiguous array that goes to, or comes from, another rank of the same communicator."""

    peer: int
    tag: int
    array: npt.NDArray[Any]


@dataclass(frozen=True)
class Window:
    """Buffers of equal length, one a rank, as those that share a host with their owners see them."""

    own: npt.NDArray[np.float32]
    peers: Mapping[int, npt.NDArray[np.float32]]
    """Of other ranks of the communicator, to be read only; a rank that I see here sees me too."""


class Transfer(ABC):
    """Messages on their way. Until it has completed, nobody else may touch their arrays."""

    @abstractmethod
    def test(self) -> bool:
        """Say whether all messages have completed, without waiting."""

    @abstractmethod
    def wait(self) -> None:
        """Return when all messages have completed."""


class Communicator(ABC):
    """A group of ranks, seen by one of them.

    Two messages with the same sender, receiver and tag arrive in the order in which they were posted. All
    ranks call the collectives in the same order, and one thread at a time uses a communicator: a second
    thread takes its own with `split(0)`.
    """

    rank: int
    size: int

    @abstractmethod
    def split(self, color: int) -> "Communicator":
        """Make the communicator of the ranks that gave the same color, in their order (collective)."""

    @abstractmethod
    def post(self, sends: Sequence[Message], receives: Sequence[Message]) -> Transfer:
        """Start messages and return at once. Matching messages have the same number of bytes."""

    def share(self, floats: int) -> Window | None:
        """Allocate zeros, float32 [floats], that ranks on the same host can read (collective).

        None where no other rank could: then any memory will do.
        """
        return None

    @abstractmethod
    def abort(self, code: int) -> NoReturn:
        """End the whole job with this exit code, the other ranks too. With one rank: raise SystemExit."""

    @final
    def send_receive(self, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        """Send and receive messages; return when all have completed."""
        self.post(sends, receives).wait()

    @final
    def gather_objects(self, value: Any) -> list[Any]:
        """Give a small picklable value, get those of all ranks in rank order (collective)."""
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
