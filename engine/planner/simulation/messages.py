"""Communicators of simulated ranks: their messages take time and carry nothing."""

from collections import deque
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol, final

import numpy as np

from comm.communicator import Communicator, Message, Transfer, Window
from engine.planner.simulation.events import Events
from engine.planner.simulation.links import Wires


class Endpoint(Protocol):
    """A rank, as messages see it."""

    bytes_sent: int

    def charge(self, seconds: float) -> None:
        """Add to the processor time of its communication thread."""

    def arrives(self, moment: float) -> None:
        """Look at the messages at that time: one will have come."""


@final
class Medium:
    """What carries the messages of all ranks.

    Parameters
    ----------
    alike
        Only one rank is there, and all others do the same at the same time.
    """

    def __init__(self, events: Events, wires: Wires, *, alike: bool):
        self.events, self.wires, self.alike = events, wires, alike
        self._mail: dict[tuple[Any, ...], _Mail] = {}

    def mail(self, source: int, to: int, tag: int, name: str) -> "_Mail":
        """Return the messages of one sender, receiver, tag and communicator."""
        key = (source, to, tag, name)
        if key not in self._mail:
            self._mail[key] = _Mail(self, source, to)
        return self._mail[key]


@final
class SimulatedCommunicator(Communicator):
    """One rank's view of some ranks; `members` are their places among all, `name` is the same on all."""

    def __init__(self, medium: Medium, owner: Endpoint, rank: int, name: str, members: range):
        self.rank, self.size = members.index(rank), len(members)
        self._medium, self._owner, self._name, self._members = medium, owner, name, members

    def split(self, color: int) -> NoReturn:
        """Fail: all communicators of a rank are there from the start."""
        raise NotImplementedError

    def abort(self, code: int) -> NoReturn:
        """Fail: nothing can go wrong."""
        raise NotImplementedError

    def share(self, floats: int) -> Window | None:
        """Return memory that nobody touches, as that of the ranks of a host."""
        own, members = np.zeros(floats, np.float32), self._members
        near = self._medium.wires.are_near
        others = (rank for rank in range(self.size) if rank != self.rank)
        peers = [rank for rank in others if near(members[rank], members[self.rank])]
        return Window(own, dict.fromkeys(peers, own)) if peers else None

    def post(self, sends: Sequence[Message], receives: Sequence[Message]) -> Transfer:
        """Start messages; see `Communicator`."""
        medium, own = self._medium, self._members[self.rank]
        outgoing = [_Piece(self._owner, message.array.nbytes) for message in sends]
        incoming = [_Piece(self._owner, message.array.nbytes) for message in receives]
        self._owner.bytes_sent += sum(piece.bytes for piece in outgoing)
        channel = medium.wires.channel(own, self._members[next(m.peer for m in (*receives, *sends))])
        moved = sum(piece.bytes for piece in (*outgoing, *incoming))
        self._owner.charge(channel.message_s)
        for message, piece in zip(sends, outgoing, strict=True):
            to = self._members[message.peer]
            if medium.alike:
                piece.arrive(medium.wires.arrival(own, to, piece.bytes, medium.events.now))
            else:
                medium.mail(own, to, message.tag, self._name).send(piece)
        for message, piece in zip(receives, incoming, strict=True):
            if medium.alike:  # the others send when I send
                piece.arrive(max(each.arrival for each in outgoing))
            else:
                medium.mail(self._members[message.peer], own, message.tag, self._name).receive(piece)
        seconds = moved * channel.processor_s_per_byte
        return _Transfer(medium.events, self._owner, [*outgoing, *incoming], seconds)


@final
class _Piece:
    """One end of a message."""

    def __init__(self, owner: Endpoint, count: int):
        self.bytes, self.arrival = count, float("inf")
        self._owner = owner

    def arrive(self, moment: float) -> None:
        """Say when the message will have come."""
        self.arrival = moment
        self._owner.arrives(moment)


@final
class _Transfer(Transfer):
    """Messages that complete when all have come; the processor time for their bytes is paid once."""

    def __init__(self, events: Events, owner: Endpoint, pieces: Sequence[_Piece], seconds: float):
        self._events, self._owner, self._pieces, self._seconds = events, owner, pieces, seconds

    def test(self) -> bool:
        """Say whether they have completed."""
        if any(piece.arrival > self._events.now for piece in self._pieces):
            return False
        self._owner.charge(self._seconds)
        self._seconds = 0.0
        return True

    def wait(self) -> NoReturn:
        """Fail: only ranks can wait, and do so for whole jobs."""
        raise NotImplementedError


@final
class _Mail:
    """Messages that meet in the order in which they were posted."""

    def __init__(self, medium: Medium, source: int, to: int):
        self._medium, self._source, self._to = medium, source, to
        self._sent, self._expected = deque[tuple[_Piece, float]](), deque[_Piece]()

    def send(self, piece: _Piece) -> None:
        """Post a message."""
        self._sent.append((piece, self._medium.events.now))
        self._meet()

    def receive(self, piece: _Piece) -> None:
        """Post room for one."""
        self._expected.append(piece)
        self._meet()

    def _meet(self) -> None:
        if self._sent and self._expected:
            (piece, posted), other = self._sent.popleft(), self._expected.popleft()
            wires, now = self._medium.wires, self._medium.events.now
            moment = wires.arrival(self._source, self._to, piece.bytes, now, waited_s=now - posted)
            for each in (piece, other):
                each.arrive(moment)
