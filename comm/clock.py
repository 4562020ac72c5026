"""The clocks of the ranks, as rank 0 sees them."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from comm.communicator import CONTROL_TAG, Communicator, Message

PINGS = 20  # the quickest one counts

Clock = Callable[[], float]


@dataclass(frozen=True)
class Reading:
    """How far this rank's clock was ahead of rank 0's, in seconds."""

    at: float
    """When, by this rank's clock."""
    offset: float
    error: float
    """Bound of the offset's error: half of the quickest round trip."""


def read_clock(communicator: Communicator, *, clock: Clock = time.perf_counter) -> Reading:
    """Compare this rank's clock with rank 0's (collective).

    Rank 0 asks each rank in turn for its time, and takes the answer to have been given half way between
    question and arrival, as in Cristian 1989, "Probabilistic clock synchronization": wrong by half of the
    round trip at most, so the quickest of a few is kept.
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
    """From this rank's clock to rank 0's, by a reading at the start and one at the end.

    Clocks drift apart steadily (by some microseconds a second), so the offset between the two readings lies
    on the straight line through them. Where both may have seen the same offset, the better one holds
    throughout: two ranks of one host have one clock.
    """

    first: Reading
    last: Reading

    @property
    def error(self) -> float:
        """Bound of the error between the two readings, in seconds."""
        return max(self.first.error, self.last.error)

    def to_root(self, moment: float) -> float:
        """Return what rank 0's clock showed when this rank's showed `moment`."""
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
