"""Measure what messages cost between two ranks, and the threads that carry them: no training run.

Everything but the latency goes through the thread that runs a step's jobs. Many small rounds at once tell its
cost of each, a few one after the other how late it notices them, chunks in both directions the bandwidth and
its cost of each byte. Polls that find no message cost processor time too: a message that comes late measures
them, and they are subtracted.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, final

import numpy as np

from comm.collectives import CHUNK_FLOATS, CHUNKS_IN_FLIGHT
from comm.comm_thread import CommThread
from comm.communicator import CONTROL_TAG, Communicator, Message, Transfer
from comm.job import Job, Round

CHUNK_BYTES = 4 * CHUNK_FLOATS

_TAG = CONTROL_TAG + 1
_SMALL = 64  # bytes
_PINGS, _ROUNDS, _LATE_S = 50, 2000, 0.05
_BURST = 256  # small rounds on their way: enough that the thread never waits for the network
_BUFFER_CHUNKS = 32  # more than a cache holds
_MOST_CHUNKS = 2048
_POLL_S = 2e-3


@dataclass(frozen=True)
class Pings:
    """Costs of one pair of ranks, as in `engine.planner.cluster.Channel`; the mean of both."""

    latency_s: float
    bytes_per_s: float
    message_s: float
    processor_s_per_byte: float
    poll_s: float
    """Delay from a message's arrival to the poll that finds it, on a thread that nobody waits for."""
    polling: float
    """Share of a core that such a thread takes while it waits for a message."""


def ping(pair: Communicator, *, seconds: float) -> Pings:
    """Measure a communicator of two ranks (collective).

    Parameters
    ----------
    seconds
        For the chunks, about: the longest part.
    """
    assert pair.size == 2
    counted = _Counted(pair)
    queue = CommThread()
    latency = _latency(pair)
    idle = _idle(queue, counted)
    poll = idle.processor_s / max(1, idle.polls)
    small = _run(queue, counted, _small(counted, _ROUNDS, _BURST))
    message = max(0.0, small.processor_s - small.polls * poll) / _ROUNDS
    one_by_one = _run(queue, counted, _small(counted, _PINGS, 0))
    late = one_by_one.wall_s / _PINGS - latency - message
    few = _run(queue, counted, _chunks(counted, CHUNKS_IN_FLIGHT))
    least = max(pair.gather_objects(few.wall_s)) / CHUNKS_IN_FLIGHT
    count = max(2 * CHUNKS_IN_FLIGHT, min(_MOST_CHUNKS, int(seconds / least)))
    bulk = _run(queue, counted, _chunks(counted, count))
    queue.close()
    spent = bulk.processor_s - bulk.polls * poll - count * message
    mine = Pings(
        latency,
        count * CHUNK_BYTES / bulk.wall_s,
        message,
        max(0.0, spent) / (2 * count * CHUNK_BYTES),
        max(0.0, late),
        idle.processor_s / idle.wall_s,
    )
    return mean(pair.gather_objects(mine))


def mean(many: Sequence[Pings]) -> Pings:
    """Return the mean of each cost."""
    return Pings(*(statistics.fmean(vars(each)[name] for each in many) for name in vars(many[0])))


@dataclass(frozen=True)
class _Spent:
    wall_s: float
    processor_s: float
    """Processor time of the communication thread."""
    polls: int
    """Polls that found no message."""


def _run(queue: CommThread, counted: "_Counted", job: Job, *, after_s: float = 0.0) -> _Spent:
    """Run a job while nobody waits for it, as beside a main thread that computes.

    Parameters
    ----------
    after_s
        Delay of this rank behind the other one.
    """
    counted.gather_objects(None)  # begin together
    time.sleep(after_s)
    marks: list[tuple[float, float, int]] = []

    def mark() -> None:
        marks.append((time.perf_counter(), time.thread_time(), counted.polls))

    def marked() -> Job:
        mark()
        yield from job
        yield Round(counted, then=mark)

    request = queue.submit(marked())
    while not request.has_ended():
        time.sleep(_POLL_S)
    request.wait()
    (wall, processor, polls), (wall_end, processor_end, polls_end) = marks
    return _Spent(wall_end - wall, processor_end - processor, polls_end - polls)


def _latency(pair: Communicator) -> float:
    """Return half of a round trip, by a thread that does nothing but poll."""
    out, back = np.zeros(_SMALL, np.uint8), np.empty(_SMALL, np.uint8)
    peer, trips = 1 - pair.rank, list[float]()
    for _ in range(_PINGS):
        start = time.perf_counter()
        for sends in (pair.rank == 0, pair.rank == 1):
            message = Message(peer, _TAG, out if sends else back)
            transfer = pair.post([message], []) if sends else pair.post([], [message])
            while not transfer.test():
                pass
        trips.append(time.perf_counter() - start)
    return statistics.median(trips) / 2


def _idle(queue: CommThread, counted: "_Counted") -> _Spent:
    """Return the cost of waiting for one message that comes late, naps included."""
    late_second, late_first = (
        _run(queue, counted, _small(counted, 1, 0), after_s=_LATE_S * (counted.rank == late))
        for late in (1, 0)
    )
    return late_second if counted.rank == 0 else late_first


def _small(pair: Communicator, count: int, max_pending: int) -> Job:
    out, back = np.zeros(_SMALL, np.uint8), np.empty((max_pending + 1, _SMALL), np.uint8)
    peer = 1 - pair.rank
    for index in range(count):
        room = back[index % len(back)]
        yield Round(pair, [Message(peer, _TAG, out)], [Message(peer, _TAG, room)], max_pending=max_pending)


def _chunks(pair: Communicator, count: int) -> Job:
    out = np.zeros((_BUFFER_CHUNKS, CHUNK_BYTES), np.uint8)
    back = np.zeros((CHUNKS_IN_FLIGHT, CHUNK_BYTES), np.uint8)
    out[:], back[:] = 1, 2  # fresh zeros are all one page
    peer = 1 - pair.rank
    for index in range(count):
        sends = [Message(peer, _TAG, out[index % len(out)])]
        yield Round(
            pair, sends, [Message(peer, _TAG, back[index % len(back)])], max_pending=CHUNKS_IN_FLIGHT - 1
        )


@final
class _Counted(Communicator):
    """A communicator that counts the polls of another one that find no message."""

    def __init__(self, inner: Communicator):
        self.rank, self.size, self.polls, self._inner = inner.rank, inner.size, 0, inner

    def split(self, color: int) -> NoReturn:
        raise NotImplementedError

    def abort(self, code: int) -> NoReturn:
        self._inner.abort(code)

    def post(self, sends: Sequence[Message], receives: Sequence[Message]) -> Transfer:
        return _CountedTransfer(self, self._inner.post(sends, receives))


@final
class _CountedTransfer(Transfer):
    def __init__(self, owner: _Counted, inner: Transfer):
        self._owner, self._inner = owner, inner

    def test(self) -> bool:
        came = self._inner.test()
        self._owner.polls += not came
        return came

    def wait(self) -> None:
        self._inner.wait()
