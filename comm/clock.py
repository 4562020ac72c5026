"""Clock alignment: the offset of each rank's clock from rank 0's, and its drift during a run."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from comm.communicator import CONTROL_TAG, Communicator, Message

PINGS = 20  # the quickest counts: of twenty, one is rarely delayed, and all take milliseconds

Clock = Callable[[], float]


@dataclass(frozen=True)
class Reading:
    """Offset of this rank's clock at one moment, in seconds."""

    at: float
    """The moment, by this rank's clock."""
    offset: float
    """This rank's clock minus rank 0's."""
    error: float
    """Bound on the error of `offset`: half of the quickest round trip."""


def read_clock(communicator: Communicator, *, clock: Clock = time.perf_counter) -> Reading:
    """Measure the offset of this rank's clock from rank 0's (collective).

    Rank 0 asks each rank in turn for its time and assumes that the answer was given half way between question
    and arrival (Cristian 1989, "Probabilistic clock synchronization"). The error is half of the round trip at
    most, so the quickest of `PINGS` round trips is kept.
    """
    root = communicator.rank == 0
    readings = dict[int, Reading]()
    for peer in range(1, communicator.size):
        if root:
            readings[peer] = min((_ask(communicator, peer, clock) for _ in range(PINGS)), key=_error)
        elif communicator.rank == peer:
            for _ in range(PINGS):
                _answer(communicator, clock)
    by_rank: dict[int, Reading] = communicator.gather_objects(readings)[0]
    return by_rank.get(communicator.rank, Reading(clock(), 0.0, 0.0))


@dataclass(frozen=True)
class Alignment:
    """Conversion of this rank's clock to rank 0's, by a reading at the start and one at the end.

    Clocks drift apart at a steady rate (microseconds a second), so offsets between the readings are
    interpolated. Where the readings agree within their errors, no drift is assumed and the more exact one
    holds throughout, as ranks of one host share a clock.
    """

    first: Reading
    last: Reading

    @property
    def error(self) -> float:
        """Bound on the error of `to_root` between the two readings, in seconds."""
        return max(self.first.error, self.last.error)

    def to_root(self, moment: float) -> float:
        """Convert a moment of this rank's clock to rank 0's clock."""
        drift = self.last.offset - self.first.offset
        if abs(drift) <= self.first.error + self.last.error:
            return moment - min(self.first, self.last, key=_error).offset
        passed = (moment - self.first.at) / (self.last.at - self.first.at)
        return moment - self.first.offset - min(1.0, max(0.0, passed)) * drift


def _error(reading: Reading) -> float:
    return reading.error


def _ask(communicator: Communicator, peer: int, clock: Clock) -> Reading:
    answer = np.empty(1)
    asked = clock()
    communicator.send_receive([Message(peer, CONTROL_TAG, np.zeros(1))], [])
    communicator.send_receive([], [Message(peer, CONTROL_TAG, answer)])
    trip, theirs = clock() - asked, float(answer[0])
    return Reading(theirs, theirs - (asked + trip / 2), trip / 2)


def _answer(communicator: Communicator, clock: Clock) -> None:
    communicator.send_receive([], [Message(0, CONTROL_TAG, np.empty(1))])
    communicator.send_receive([Message(0, CONTROL_TAG, np.array([clock()]))], [])
