"""Collectives over any communicator; sums are added in the order of the fixed tree."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec

import numpy as np
import numpy.typing as npt

from comm.communicator import CONTROL_TAG, Communicator, Message, Window
from comm.job import Job, Round
from comm.tree import Tree

CHUNK_FLOATS = 1 << 18
"""1 MB; at 512 KB the communication thread spends 14 % more CPU. At most `comm.mpi.EAGER_BYTES`, so that a
chunk leaves at once."""
CHUNKS_IN_FLIGHT = 8
"""At 1 Gb/s part-reduce reached 0.86 of TCP's rate with eight of 512 KB in flight, 0.76 with four of 1 MB."""

Peers = Mapping[int, npt.NDArray[np.float32]]
"""Buffers of other ranks that this rank can read in shared memory, by rank."""

Chunk = tuple[int, int, int, slice, slice]

Prepare = Callable[[slice], Job]
"""Job that computes a region of a buffer, without messages."""

_P = ParamSpec("_P")

_NOBODY: Peers = {}
_SHARED_CHUNKS = 8  # so many make one where a rank reads shared memory: no transfer overlaps with its adds
_READY = np.empty(0, np.float32)  # content of a message that only announces that a chunk can be read
_MOST_KEPT = 1 << 10  # cuts of buffers into chunks
_TAGS = 1 << 15  # MPI guarantees tags up to 32767


def _with_tag(
    collective: Callable[Concatenate["Collectives", int, _P], Job],
) -> Callable[Concatenate["Collectives", _P], Job]:
    """Pass its job's first tag to a collective, taken in the call: all ranks call in the same order.

    They run jobs in any order, so a generator's body, which runs later, cannot take it.
    """

    @wraps(collective)
    def call(self: "Collectives", /, *args: _P.args, **kwargs: _P.kwargs) -> Job:
        return collective(self, self._take_tag(), *args, **kwargs)

    return call


class Collectives:
    """The collectives of a communicator, which nothing else may use, in the order of a tree.

    Each collective returns a job for a `CommandQueue`, or for `run_job`; no message is sent before that runs
    it. All ranks make the same calls in the same order. They may run the jobs in any order, and concurrently,
    because each job's messages have tags of their own, used again after _TAGS / 2 calls. (The methods get the
    first tag from their decorator, not from the caller.)

    Parameters
    ----------
    chunk_floats
        Length of the chunks that buffers are sent in; any value gives the same bits.
    chunks_in_flight
        Chunks of one job that may be in flight at once.
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
        self._chunk_floats, self._chunks_in_flight = chunk_floats, chunks_in_flight
        self._shared_memory = shared_memory
        self._calls = 0
        self._chunks_of: dict[tuple[int, int, tuple[int, ...], bool], list[Chunk]] = {}
        self._free_chunks: list[npt.NDArray[np.float32]] = []  # receive buffers that no round uses

    def with_others(self, communicator: Communicator, tree: Tree) -> "Collectives":
        """Return the collectives of another communicator, with the same settings."""
        return Collectives(
            communicator,
            tree,
            chunk_floats=self._chunk_floats,
            chunks_in_flight=self._chunks_in_flight,
            shared_memory=self._shared_memory,
        )

    def share(self, floats: int) -> Window | None:
        """Allocate buffers for `part_reduce` and `part_broadcast`; see `Communicator.share`."""
        return self.communicator.share(floats) if self._shared_memory else None

    @_with_tag
    def part_reduce(
        self,
        tag: int,
        buffer: npt.NDArray[np.float32],
        peers: Peers = _NOBODY,
        *,
        until_read: bool = True,
    ) -> Job:
        """Sum a buffer over all ranks; each rank keeps the sums of its own strips (a reduce-scatter).

        Recursive halving, nearest blocks first, so that the pairing is the tree. A rank that owns two blocks
        sends for both; between the two it sends nothing, as their sum is in the buffer at entry. The chunks
        that are sent at the next level come first, so that levels overlap.

        Parameters
        ----------
        buffer
            float32 [tree.padded(n)]. At entry: the tree sum over the rank's own leaves. At return: the sum
            over all leaves in `tree.strips_of(rank)`, garbage elsewhere.
        peers
            The same buffer of other ranks, see `share`; they keep its content until this rank has read it.
        until_read
            The job ends when these ranks have read this rank's buffer, too. False saves a round of messages,
            where the buffer is not written before they have said something later: see `Bucket`.
        """
        self._check(buffer)
        written: deque[slice] = deque(maxlen=self._chunks_in_flight - 1)  # by the last rounds, newest first
        for level in range(self.tree.levels):
            for block, partner, peer, kept, given in self._chunks(level, buffer.size, peers, own_first=False):
                mine = buffer[kept]
                add: Callable[[], object]
                if peer in peers:
                    sent, received = _READY, _READY
                    add = partial(np.add, mine, peers[peer][kept], out=mine)
                else:
                    sent, received = buffer[given], self._take_chunk(mine.size)
                    add = partial(self._add_received, mine, received)
                yield Round(
                    self.communicator,
                    [Message(peer, tag + partner % 2, sent)],
                    [Message(peer, tag + block % 2, received)],
                    add,
                    _rounds_since_write(written, given),
                    bytes_read=mine.nbytes if peer in peers else 0,
                )
                written.appendleft(kept)
        if until_read:
            yield from self._wait_for_readers(tag, peers)

    @_with_tag
    def part_broadcast(
        self,
        tag: int,
        buffer: npt.NDArray[np.float32],
        peers: Peers = _NOBODY,
        prepare: Prepare | None = None,
        *,
        until_read: bool = True,
    ) -> Job:
        """Copy each rank's strips to all ranks (an all-gather).

        Recursive doubling, furthest blocks first. The chunks that a rank has had for longest leave first, so
        that levels overlap.

        Parameters
        ----------
        buffer
            float32 [tree.padded(n)]. At entry only the rank's own strips matter; all are filled at return.
        peers, until_read
            As for `part_reduce`.
        prepare
            Computes the rank's own strips, chunk by chunk, each just before it is sent.
        """
        self._check(buffer)
        written: deque[slice] = deque(maxlen=self._chunks_in_flight - 1)
        if self.tree.levels == 0 and prepare is not None:
            yield from prepare(slice(0, buffer.size))
        for level in reversed(range(self.tree.levels)):
            for block, partner, peer, mine, theirs in self._chunks(level, buffer.size, peers, own_first=True):
                if level == self.tree.levels - 1 and prepare is not None:  # all own strips are sent here
                    yield from prepare(mine)
                copy = None
                sent, received = buffer[mine], buffer[theirs]
                if peer in peers:
                    copy = partial(np.copyto, received, peers[peer][theirs])
                    sent = received = _READY
                yield Round(
                    self.communicator,
                    [Message(peer, tag + partner % 2, sent)],
                    [Message(peer, tag + block % 2, received)],
                    copy,
                    _rounds_since_write(written, mine),
                    bytes_read=buffer[theirs].nbytes if peer in peers else 0,
                )
                written.appendleft(theirs)
        if until_read:
            yield from self._wait_for_readers(tag, peers)

    @_with_tag
    def all_gather_leaves(self, tag: int, values: npt.NDArray[Any]) -> Job:
        """Gather the rows of all leaves on all ranks.

        Parameters
        ----------
        values
            Contiguous [leaves, ...]: the rows of the rank's own leaves are filled at entry, all at return.
        """
        return self._gather_leaves(tag, values, self.tree, 0)

    @_with_tag
    def all_gather_among(self, tag: int, values: npt.NDArray[Any], tree: Tree, first: int) -> Job:
        """Gather the rows of all leaves on some neighbouring ranks, which each other rank does by itself.

        Parameters
        ----------
        values
            As for `all_gather_leaves`.
        tree
            Of the ranks from `first` on, this one among them, and their leaves.
        """
        return self._gather_leaves(tag, values, tree, first)

    @_with_tag
    def all_gather(self, tag: int, values: npt.NDArray[Any]) -> Job:
        """Gather one row of each rank on all ranks.

        Parameters
        ----------
        values
            Contiguous [ranks, ...]: the rank's own row is filled when the job starts, all are at return.
        """
        ranks = self.communicator.size
        assert len(values) == ranks and values.flags.c_contiguous
        return self._all_gather(tag, values, ranks, 0, partial(_rows_of_ranks, ranks))

    def _gather_leaves(self, tag: int, values: npt.NDArray[Any], tree: Tree, first: int) -> Job:
        assert len(values) == tree.leaves and values.flags.c_contiguous
        return self._all_gather(tag, values, tree.ranks, first, partial(_rows, tree))

    def _all_gather(
        self,
        tag: int,
        values: npt.NDArray[Any],
        ranks: int,
        first: int,
        rows_of: Callable[[int, int], list[slice]],
    ) -> Job:
        """Gather rows on `ranks` ranks from `first` on.

        Parameters
        ----------
        rows_of
            Returns the rows of ``count`` consecutive ones, given the ``last``: ``rows_of(last, count)``.
        """
        rank = self.communicator.rank - first
        known = 1  # number of ranks whose rows are here: this rank and those just below it
        while known < ranks:
            count = min(known, ranks - known)
            to, source = (rank + known) % ranks, (rank - known) % ranks
            yield Round(
                self.communicator,
                [Message(first + to, tag, values[rows]) for rows in rows_of(rank, count)],
                [Message(first + source, tag, values[rows]) for rows in rows_of(source, count)],
            )
            known += count

    @_with_tag
    def broadcast(self, tag: int, array: npt.NDArray[Any], root: int) -> Job:
        """Copy the root's contiguous array into the arrays of all ranks (binomial tree)."""
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

    @_with_tag
    def pass_on(
        self, tag: int, sends: Mapping[int, npt.NDArray[Any]], receives: Mapping[int, npt.NDArray[Any]]
    ) -> Job:
        """Send a flat array to each of some ranks, and receive one from each of others, chunk by chunk.

        Parameters
        ----------
        sends, receives
            By rank: contiguous arrays, as long as the other rank's. An empty one says only that the other can
            go on.
        """
        longest = max((array.size for array in (*sends.values(), *receives.values())), default=0)
        for start in range(0, max(longest, 1), self._chunk_floats):
            chunk = slice(start, start + self._chunk_floats)
            yield Round(
                self.communicator,
                [Message(peer, tag, array[chunk]) for peer, array in sends.items() if _has(array, start)],
                [Message(peer, tag, array[chunk]) for peer, array in receives.items() if _has(array, start)],
                max_pending=self._chunks_in_flight - 1,
            )

    @_with_tag
    def all_to_all(self, tag: int, send: npt.NDArray[Any], recv: npt.NDArray[Any]) -> Job:
        """Send row p to rank p and receive rank p's row into row p; contiguous [ranks, ...], disjoint."""
        rank, size = self.communicator.rank, self.communicator.size
        assert len(send) == len(recv) == size
        for distance in range(1, size):
            to, source = (rank + distance) % size, (rank - distance) % size
            yield Round(
                self.communicator,
                [Message(to, tag, send[to])],
                [Message(source, tag, recv[source])],
                max_pending=self._chunks_in_flight - 1,
            )
        recv[rank] = send[rank]

    def _chunks(self, level: int, floats: int, peers: Peers, *, own_first: bool) -> list[Chunk]:
        """Return the chunks of a level in their order; they are the same in every step."""
        key = level, floats, tuple(peers), own_first
        found = self._chunks_of.get(key)
        if found is None:
            if len(self._chunks_of) >= _MOST_KEPT:
                self._chunks_of.clear()
            found = self._chunks_of[key] = list(self._cut(level, floats, peers, own_first=own_first))
        return found

    def _cut(self, level: int, floats: int, peers: Peers, *, own_first: bool) -> Iterator[Chunk]:
        """Yield (block, partner, owner of the partner, block's chunk, partner's chunk) of a level.

        Own blocks alternate.

        A block's region at the next level is one half of its region here; that half comes first or last. All
        ranks follow the same order (level, chunk, block), so no two wait for each other: the first chunk in
        this order that has not been exchanged waits for no later one, on either rank.
        """
        length = floats >> (level + 1)
        pairs = []
        for block in self.tree.blocks_of(self.communicator.rank):
            partner = block ^ 1 << level
            peer = self.tree.owner(partner)
            if peer != self.communicator.rank:
                step = self._chunk_floats * (_SHARED_CHUNKS if peer in peers else 1)
                pairs.append((block, partner, range(0, length, step)))
        for index in range(max((len(starts) for *_, starts in pairs), default=0)):
            for block, partner, starts in pairs:
                if index < len(starts):
                    keeps_upper = bool(block >> (level + 1) & 1)  # the partner's bit is the same
                    start = starts[index if keeps_upper != own_first else -1 - index]
                    stop = min(start + starts.step, length)
                    own, other = (self.tree.region(b, level + 1, floats).start for b in (block, partner))
                    mine, theirs = slice(own + start, own + stop), slice(other + start, other + stop)
                    yield block, partner, self.tree.owner(partner), mine, theirs

    def _wait_for_readers(self, tag: int, peers: Peers) -> Job:
        """Wait until the ranks that read this rank's buffer in shared memory have done so."""
        blocks = self.tree.blocks_of(self.communicator.rank)
        met = {self.tree.owner(block ^ 1 << level) for block in blocks for level in range(self.tree.levels)}
        readers = [rank for rank in sorted(met) if rank in peers]
        if readers:
            messages = [Message(rank, tag, _READY) for rank in readers]
            yield Round(self.communicator, messages, messages)

    def _take_tag(self) -> int:
        """Return the first of a job's two tags, one for each block that a rank may receive for.

        Two are enough: two blocks meet at one level only, and chunks of one tag arrive in order.
        """
        self._calls += 1
        return CONTROL_TAG + 1 + 2 * (self._calls % (_TAGS // 2 - 1))

    def _take_chunk(self, floats: int) -> npt.NDArray[np.float32]:
        chunk = self._free_chunks.pop() if self._free_chunks else np.empty(self._chunk_floats, np.float32)
        return chunk[:floats]

    def _add_received(self, kept: npt.NDArray[np.float32], received: npt.NDArray[np.float32]) -> None:
        np.add(kept, received, out=kept)
        assert isinstance(received.base, np.ndarray)
        self._free_chunks.append(received.base)  # the last one is still in cache, and is taken first

    def _check(self, buffer: npt.NDArray[np.float32]) -> None:
        assert buffer.dtype == np.float32 and buffer.ndim == 1 and buffer.flags.c_contiguous
        assert buffer.size == self.tree.padded(buffer.size)


def _rows(tree: Tree, last: int, count: int) -> list[slice]:
    """Return the rows of `count` consecutive ranks, the last of which is `last`, modulo all ranks."""
    first, stop = last - count + 1, tree.leaves_of(last).stop
    if first >= 0:
        return [slice(tree.leaves_of(first).start, stop)]
    first += tree.ranks
    return [slice(0, stop), slice(tree.leaves_of(first).start, tree.leaves)]


def _rows_of_ranks(ranks: int, last: int, count: int) -> list[slice]:
    """Return `count` consecutive ranks, the last of which is `last`, modulo all `ranks`."""
    first = last - count + 1
    return [slice(first, last + 1)] if first >= 0 else [slice(0, last + 1), slice(first + ranks, ranks)]


def _rounds_since_write(written: deque[slice], region: slice) -> int:
    """Return how many of the last rounds came after the last one that writes into a region.

    These need not have completed before the region is sent; all rounds noted, where none writes there.
    """
    for number, other in enumerate(written):
        if region.start < other.stop and other.start < region.stop:
            return number
    return written.maxlen or 0


def _has(array: npt.NDArray[Any], start: int) -> bool:
    return array.size > start or start == 0
