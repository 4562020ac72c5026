"""Communicators of simulated ranks: messages take time and carry no data.

They know ranks by number only. What posting and completing messages causes, in processor time, bytes and
arrivals, goes into a `Ledger` for each rank, which that rank reads and clears.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, final

import numpy as np

from comm.communicator import Communicator, Message, Transfer, Window
from engine.planner.simulation.instructions import Announce
from engine.planner.simulation.links import Links


@dataclass
class Ledger:
    """What the communication of one rank has caused."""

    processor_s: float = 0.0
    """Processor time of the communication thread that it has not yet spent."""
    bytes_sent: int = 0
    """Since the start."""
    arrivals: list[Announce] = field(default_factory=list)
    """Arrivals that have become known and that no rank has been told of, in that order."""


@final
class Fabric:
    """The links between all ranks, and the queues that match sends with receives.

    Parameters
    ----------
    symmetric
        Only one rank is simulated because all do the same at the same time: its own sends answer its
        receives.
    """

    def __init__(self, links: Links, clock: Callable[[], float], *, symmetric: bool):
        self.links, self.clock, self.symmetric = links, clock, symmetric
        self._queues: dict[tuple[int, int, int, str], _MatchQueue] = {}

    def queue(self, source: int, to: int, tag: int, name: str) -> "_MatchQueue":
        """Return the queue of one sender, receiver, tag and communicator."""
        key = (source, to, tag, name)
        if key not in self._queues:
            self._queues[key] = _MatchQueue(self, source, to)
        return self._queues[key]


@final
class SimulatedCommunicator(Communicator):
    """One rank's view of some ranks.

    Parameters
    ----------
    ledger
        Of this rank; shared by its communicators.
    name
        The same on all members, and no other communicator's.
    members
        Ranks of the members in the world, `rank` among them.
    """

    def __init__(self, fabric: Fabric, ledger: Ledger, rank: int, name: str, members: range):
        self.rank, self.size = members.index(rank), len(members)
        self._fabric, self._ledger, self._name, self._members = fabric, ledger, name, members

    def split(self, color: int) -> NoReturn:
        """Fail: all communicators of a simulated rank exist from the start."""
        raise NotImplementedError

    def abort(self, code: int) -> NoReturn:
        """Fail: nothing goes wrong in a simulation."""
        raise NotImplementedError

    def share(self, floats: int) -> Window | None:
        """Return one untouched array as the window of each rank of the host; None where there is no other."""
        own, members = np.zeros(floats, np.float32), self._members
        on_host = self._fabric.links.share_host
        others = (rank for rank in range(self.size) if rank != self.rank)
        peers = [rank for rank in others if on_host(members[rank], members[self.rank])]
        return Window(own, dict.fromkeys(peers, own)) if peers else None

    def post(self, sends: Sequence[Message], receives: Sequence[Message]) -> Transfer:
        """Start messages, and enter their costs into the ledger; see `Communicator`."""
        fabric, ledger, own = self._fabric, self._ledger, self._members[self.rank]
        outgoing = [_MessageEnd(own, message.array.nbytes) for message in sends]
        incoming = [_MessageEnd(own, message.array.nbytes) for message in receives]
        ledger.bytes_sent += sum(end.bytes for end in outgoing)
        channel = fabric.links.channel(own, self._members[next(m.peer for m in (*receives, *sends))])
        moved = sum(end.bytes for end in (*outgoing, *incoming))
        ledger.processor_s += channel.message_s
        for message, end in zip(sends, outgoing, strict=True):
            to = self._members[message.peer]
            if fabric.symmetric:
                end.set_arrival(fabric.links.arrival(own, to, end.bytes, fabric.clock()), ledger)
            else:
                fabric.queue(own, to, message.tag, self._name).send(end, ledger)
        for message, end in zip(receives, incoming, strict=True):
            if fabric.symmetric:  # the peers post their sends at this moment too
                end.set_arrival(max(each.arrival for each in outgoing), ledger)
            else:
                fabric.queue(self._members[message.peer], own, message.tag, self._name).receive(end, ledger)
        seconds = moved * channel.processor_s_per_byte
        return _Transfer(fabric.clock, ledger, [*outgoing, *incoming], seconds)


@final
class _MessageEnd:
    """The sender's or the receiver's end of a message."""

    __slots__ = ("arrival", "bytes", "rank")

    def __init__(self, rank: int, count: int):
        self.rank, self.bytes, self.arrival = rank, count, float("inf")

    def set_arrival(self, moment: float, ledger: Ledger) -> None:
        """Set the time at which the message completes; a rank enters it into its ledger to be announced."""
        self.arrival = moment
        ledger.arrivals.append(Announce(self.rank, moment))


@final
class _Transfer(Transfer):
    """Messages that complete together; the processor time for their bytes is due when they have arrived."""

    def __init__(
        self, clock: Callable[[], float], ledger: Ledger, ends: Sequence[_MessageEnd], seconds: float
    ):
        self._clock, self._ledger, self._ends, self._seconds = clock, ledger, ends, seconds

    def test(self) -> bool:
        """Return whether all messages have arrived; enter the costs of their bytes the first time."""
        now = self._clock()
        if any(end.arrival > now for end in self._ends):
            return False
        self._ledger.processor_s += self._seconds
        self._seconds = 0.0
        return True

    def wait(self) -> NoReturn:
        """Fail: the simulator's clock stands still while a rank runs."""
        raise NotImplementedError


@final
class _MatchQueue:
    """Matches sends and receives in the order in which they were posted, as MPI does."""

    def __init__(self, fabric: Fabric, source: int, to: int):
        self._fabric, self._source, self._to = fabric, source, to
        self._sends, self._receives = deque[tuple[_MessageEnd, float]](), deque[_MessageEnd]()

    def send(self, end: _MessageEnd, ledger: Ledger) -> None:
        """Post a send; if its receive is there, enter the arrival at both ends into the poster's ledger."""
        self._sends.append((end, self._fabric.clock()))
        self._match(ledger)

    def receive(self, end: _MessageEnd, ledger: Ledger) -> None:
        """Post a receive, likewise."""
        self._receives.append(end)
        self._match(ledger)

    def _match(self, ledger: Ledger) -> None:
        if self._sends and self._receives:
            (sender, posted), receiver = self._sends.popleft(), self._receives.popleft()
            links, now = self._fabric.links, self._fabric.clock()
            moment = links.arrival(self._source, self._to, sender.bytes, now, waited_s=now - posted)
            for end in (sender, receiver):
                end.set_arrival(moment, ledger)
