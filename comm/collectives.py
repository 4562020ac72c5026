"""Collectives in the order of the fixed tree, over any communicator."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from comm.communicator import CONTROL_TAG, Communicator, Message, Window
from comm.job import Job, Round
from comm.tree import Tree

CHUNK_FLOATS, CHUNKS_IN_FLIGHT = 1 << 18, 8
"""1 MB: half as much costs the thread a seventh more. It must not exceed `comm.mpi.EAGER_BYTES`."""

Peers = Mapping[int, npt.NDArray[np.float32]]
"""The buffers of ranks whose memory this rank can read, by rank."""

Prepare = Callable[[slice], Job]
"""Computes a part of a buffer, with a yield of None here and there."""

_NOBODY: Peers = {}
_NEAR_CHUNKS = 8  # as long is what is read in another rank's memory: nothing is on the wire meanwhile
_READY = np.empty(0, np.float32)  # the content of a message that only says so

_TAGS = 1 << 15  # what every MPI has


class Collectives:
    """The collectives of one communicator and tree: the only ones of that communicator.

    A call returns a job for a `CommandQueue`, or for `run_job`; nothing is done before that runs it. All
    ranks make the same calls in the same order. The jobs may run in any order, and side by side, because each
    has tags of its own: it gets them in the call, and they come round again only after _TAGS / 2 more.

    Parameters
    ----------
    chunk_floats
        Length of the messages into which buffers are cut; any value gives the same bits.
    chunks_in_flight
        How many chunks of one job travel at most, while an earlier one is added.
    shared_memory
        Whether ranks of one host read each other's buffers instead of sending them; the same bits either way.
    """

    def __init__(
        self,
        communicator: Communicator,
        tree: Tree,
        *,
        chunk_floats: int = CHUNK_FLOATS,
        chunks_in_flight: int = CHUNKS_IN_FLIGHT,
        shared_memory: bool = True,
    ):
        assert communicator.size == tree.ranks
        if chunk_floats < 1 or chunks_in_flight < 1:
            raise ValueError(
                f"chunk_floats={chunk_floats} and chunks_in_flight={chunks_in_flight} must be at least 1"
            )
        self.communicator, self.tree = communicator, tree
        self._chunk, self._flying, self._shares = chunk_floats, chunks_in_flight, shared_memory
        self._calls = 0
        self._scratch: list[npt.NDArray[np.float32]] = []  # chunks that no exchange uses

    def with_others(self, communicator: Communicator, tree: Tree) -> "Collectives":
        """Return the collectives of another communicator, with the same chunks."""
        return Collectives(
            communicator,
            tree,
            chunk_floats=self._chunk,
            chunks_in_flight=self._flying,
            shared_memory=self._shares,
        )

    def share(self, floats: int) -> Window | None:
        """Allocate buffers for `part_reduce` and `part_broadcast`; see `Communicator.share`."""
        return self.communicator.share(floats) if self._shares else None

    def part_reduce(self, buffer: npt.NDArray[np.float32], peers: Peers = _NOBODY) -> Job:
        """Sum a buffer over all ranks, each rank keeping its own strips.

        Recursive halving, nearest blocks first, so that the pairing is the tree. A rank with a pair of blocks
        plays both; the pair has nothing to send, as its sum is there at entry. What leaves at the next level
        goes first, so that the next level begins before this one has ended.

        Parameters
        ----------
        buffer
            float32 [tree.padded(n)]. At entry: the tree sum over the rank's own leaves. At return: the sum
            over all leaves in `tree.strips_of(rank)`, garbage elsewhere.
        peers
            The same buffer of other ranks, see `share`; none of them changes its own before this rank has
            read there what it needs.
        """
        self._check(buffer)
        return self._part_reduce(buffer, peers, self._tag())

    def _part_reduce(self, buffer: npt.NDArray[np.float32], peers: Peers, tag: int) -> Job:
        written: deque[slice] = deque(maxlen=self._flying - 1)  # newest first
        for level in range(self.tree.levels):
            for block, partner, kept, given in self._chunks(level, buffer.size, peers, own_first=False):
                peer, mine = self.tree.owner(partner), buffer[kept]
                add: Callable[[], object]
                if peer in peers:
                    sent, received = _READY, _READY
                    add = partial(np.add, mine, peers[peer][kept], out=mine)
                else:
                    sent, received = buffer[given], self._take_scratch(mine.size)
                    add = partial(self._add, mine, received)
                yield Round(
                    self.communicator,
                    [Message(peer, tag + partner % 2, sent)],
                    [Message(peer, tag + block % 2, received)],
                    add,
                    _newer_than(written, given),
                    bytes_read=mine.nbytes if peer in peers else 0,
                )
                written.appendleft(kept)
        yield from self._until_read(peers, tag)

    def part_broadcast(
        self, buffer: npt.NDArray[np.float32], peers: Peers = _NOBODY, prepare: Prepare | None = None
    ) -> Job:
        """Spread each rank's strips to all ranks: recursive doubling, furthest blocks first.

        What a rank has had for longest goes first, so that a level begins before the one before has ended.

        Parameters
        ----------
        buffer
            float32 [tree.padded(n)]. At entry only the rank's own strips matter; all are filled at return.
        peers
            As of `part_reduce`.
        prepare
            Computes the rank's own strips part by part, each just before it leaves, while those before are on
            their way.
        """
        self._check(buffer)
        return self._part_broadcast(buffer, peers, prepare or _as_it_is, self._tag())

    def _part_broadcast(
        self, buffer: npt.NDArray[np.float32], peers: Peers, prepare: Prepare, tag: int
    ) -> Job:
        written: deque[slice] = deque(maxlen=self._flying - 1)
        if self.tree.levels == 0:
            yield from prepare(slice(0, buffer.size))
        for level in reversed(range(self.tree.levels)):
            for block, partner, mine, theirs in self._chunks(level, buffer.size, peers, own_first=True):
                if level == self.tree.levels - 1:  # all own strips leave here, whole
                    yield from prepare(mine)
                peer, copy = self.tree.owner(partner), None
                sent, received = buffer[mine], buffer[theirs]
                if peer in peers:
                    copy = partial(np.copyto, received, peers[peer][theirs])
                    sent = received = _READY
                yield Round(
                    self.communicator,
                    [Message(peer, tag + partner % 2, sent)],
                    [Message(peer, tag + block % 2, received)],
                    copy,
                    _newer_than(written, mine),
                    bytes_read=buffer[theirs].nbytes if peer in peers else 0,
                )
                written.appendleft(theirs)
        yield from self._until_read(peers, tag)

    def _until_read(self, peers: Peers, tag: int) -> Job:
        """Wait until the others have read what they need in this rank's buffer."""
        blocks = self.tree.blocks_of(self.communicator.rank)
        met = {self.tree.owner(block ^ 1 << level) for block in blocks for level in range(self.tree.levels)}
        near = [rank for rank in sorted(met) if rank in peers]
        if near:
            messages = [Message(rank, tag, _READY) for rank in near]
            yield Round(self.communicator, messages, messages)

    def all_gather_leaves(self, values: npt.NDArray[Any]) -> Job:
        """Fill the rows of all leaves.

        Parameters
        ----------
        values
            Contiguous [leaves, ...]: the rows of the rank's own leaves are filled at entry, all at return.
        """
        assert len(values) == self.tree.leaves and values.flags.c_contiguous
        return self._all_gather_leaves(values, self._tag())

    def _all_gather_leaves(self, values: npt.NDArray[Any], tag: int) -> Job:
        rank, ranks = self.communicator.rank, self.communicator.size
        known = 1  # this rank has the rows of so many ranks, up to and with its own
        while known < ranks:
            count = min(known, ranks - known)
            to, source = (rank + known) % ranks, (rank - known) % ranks
            yield Round(
                self.communicator,
                [Message(to, tag, values[rows]) for rows in self._rows(rank, count)],
                [Message(source, tag, values[rows]) for rows in self._rows(source, count)],
            )
            known += count

    def broadcast(self, array: npt.NDArray[Any], root: int) -> Job:
        """Copy the root's contiguous array into those of all ranks (binomial tree)."""
        return self._broadcast(array, root, self._tag())

    def _broadcast(self, array: npt.NDArray[Any], root: int, tag: int) -> Job:
        size = self.communicator.size
        place = (self.communicator.rank - root) % size  # the root's is 0
        if place:
            parent = place ^ (1 << (place.bit_length() - 1))
            yield Round(self.communicator, [], [Message((parent + root) % size, tag, array)])
        bits = range(place.bit_length(), (size - 1).bit_length())
        children = [place | 1 << bit for bit in bits if place | 1 << bit < size]
        if children:
            sends = [Message((child + root) % size, tag, array) for child in children]
            yield Round(self.communicator, sends)

    def all_to_all(self, send: npt.NDArray[Any], recv: npt.NDArray[Any]) -> Job:
        """Send row p to rank p and receive rank p's row into row p; contiguous [ranks, ...], disjoint."""
        assert len(send) == len(recv) == self.communicator.size
        return self._all_to_all(send, recv, self._tag())

    def _all_to_all(self, send: npt.NDArray[Any], recv: npt.NDArray[Any], tag: int) -> Job:
        rank, size = self.communicator.rank, self.communicator.size
        for distance in range(1, size):
            to, source = (rank + distance) % size, (rank - distance) % size
            yield Round(
                self.communicator,
                [Message(to, tag, send[to])],
                [Message(source, tag, recv[source])],
                max_pending=self._flying - 1,
            )
        recv[rank] = send[rank]

    def _chunks(
        self, level: int, floats: int, peers: Peers, *, own_first: bool
    ) -> Iterator[tuple[int, int, slice, slice]]:
        """Yield (block, partner, the block's chunk, the partner's chunk) of a level, blocks in turn.

        A block's region at the next level is a half of its region here; that half comes first or last. All
        ranks walk in the same order, level then chunk then block, so that no two wait for each other: the
        first chunk in this order that has not been exchanged waits for none behind it, on either rank.
        """
        length = floats >> (level + 1)
        pairs = []
        for block in self.tree.blocks_of(self.communicator.rank):
            partner = block ^ 1 << level
            peer = self.tree.owner(partner)
            if peer != self.communicator.rank:
                chunk = self._chunk * (_NEAR_CHUNKS if peer in peers else 1)
                pairs.append((block, partner, range(0, length, chunk)))
        for index in range(max((len(starts) for *_, starts in pairs), default=0)):
            for block, partner, starts in pairs:
                if index < len(starts):
                    keeps_upper = bool(block >> (level + 1) & 1)  # the partner's bit is the same
                    start = starts[index if keeps_upper != own_first else -1 - index]
                    stop = min(start + starts.step, length)
                    own, other = (self.tree.region(b, level + 1, floats).start for b in (block, partner))
                    yield block, partner, slice(own + start, own + stop), slice(other + start, other + stop)

    def _rows(self, last: int, count: int) -> list[slice]:
        """Return the rows of `count` ranks that end with rank `last`, counted around the circle."""
        first, stop = last - count + 1, self.tree.leaves_of(last).stop
        if first >= 0:
            return [slice(self.tree.leaves_of(first).start, stop)]
        first += self.tree.ranks
        return [slice(0, stop), slice(self.tree.leaves_of(first).start, self.tree.leaves)]

    def _tag(self) -> int:
        """Return the first of two tags for one job, one for each block that a rank may receive for.

        Two ranks meet at one level only, and chunks of one tag arrive in order.
        """
        self._calls += 1
        return CONTROL_TAG + 1 + 2 * (self._calls % (_TAGS // 2 - 1))

    def _take_scratch(self, floats: int) -> npt.NDArray[np.float32]:
        chunk = self._scratch.pop() if self._scratch else np.empty(self._chunk, np.float32)
        return chunk[:floats]

    def _add(self, kept: npt.NDArray[np.float32], received: npt.NDArray[np.float32]) -> None:
        np.add(kept, received, out=kept)
        assert isinstance(received.base, np.ndarray)
        self._scratch.append(received.base)  # the newest is still in cache: it goes out first

    def _check(self, buffer: npt.NDArray[np.float32]) -> None:
        assert buffer.dtype == np.float32 and buffer.ndim == 1 and buffer.flags.c_contiguous
        assert buffer.size == self.tree.padded(buffer.size)


def _as_it_is(_: slice) -> Job:
    """Compute nothing."""
    return iter(())


def _newer_than(written: deque[slice], region: slice) -> int:
    """Return how many of the last exchanges, newest first, come after the last that writes into a region."""
    for number, other in enumerate(written):
        if region.start < other.stop and other.start < region.stop:
            return number
    return written.maxlen or 0
