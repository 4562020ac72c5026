"""Collectives in the order of the fixed tree, over any communicator."""

from collections import deque
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from comm.communicator import Communicator, Message, Transfer
from comm.tree import Tree


class _Kind(IntEnum):
    """Of which collective a message is; 0 is the communicator's own."""

    REDUCE = 1
    PART_BROADCAST = 2
    GATHER_LEAVES = 3
    BROADCAST = 4
    ALL_TO_ALL = 5


class Collectives:
    """The collectives of one communicator and tree. All ranks call them in the same order.

    Parameters
    ----------
    chunk_floats
        Length of the messages into which a part-reduce is cut; any value gives the same bits.
    chunks_in_flight
        How many chunks travel while one is added. Scratch memory is chunk_floats * chunks_in_flight floats.
    """

    def __init__(
        self,
        communicator: Communicator,
        tree: Tree,
        *,
        chunk_floats: int = 1 << 18,
        chunks_in_flight: int = 4,
    ):
        assert communicator.size == tree.ranks
        if chunk_floats < 1 or chunks_in_flight < 1:
            raise ValueError(
                f"chunk_floats={chunk_floats} and chunks_in_flight={chunks_in_flight} must be at least 1"
            )
        self.communicator, self.tree = communicator, tree
        self._scratch = np.empty((chunks_in_flight, chunk_floats), np.float32)

    def part_reduce(self, buffer: npt.NDArray[np.float32]) -> None:
        """Sum a buffer over all ranks, each rank keeping its own strips.

        Recursive halving, nearest blocks first, so that the pairing is the tree. A rank with a pair of blocks
        plays both; the pair has nothing to send, as its sum is there at entry.

        Parameters
        ----------
        buffer
            float32 [tree.padded(n)]. At entry: the tree sum over the rank's own leaves. At return: the sum
            over all leaves in `tree.strips_of(rank)`, garbage elsewhere.
        """
        self._check(buffer)
        in_flight: deque[tuple[Transfer, npt.NDArray[np.float32], npt.NDArray[np.float32]]] = deque()
        for level in range(self.tree.levels):
            for number, (block, partner, given, kept) in enumerate(self._chunks(level, buffer)):
                if len(in_flight) == len(self._scratch):
                    _add_oldest(in_flight)
                received = self._scratch[number % len(self._scratch), : kept.size]
                peer = self.tree.owner(partner)
                transfer = self.communicator.post(
                    [Message(peer, self._tag(_Kind.REDUCE, level, partner), given)],
                    [Message(peer, self._tag(_Kind.REDUCE, level, block), received)],
                )
                in_flight.append((transfer, kept, received))
            while in_flight:  # the next level sends what this one adds
                _add_oldest(in_flight)

    def part_broadcast(self, buffer: npt.NDArray[np.float32]) -> None:
        """Spread each rank's strips to all ranks: recursive doubling, furthest blocks first.

        Parameters
        ----------
        buffer
            float32 [tree.padded(n)]. At entry only the rank's own strips matter; all are filled at return.
        """
        self._check(buffer)
        for level in reversed(range(self.tree.levels)):
            sends, receives = [], []
            for block, partner in self._partners(level):
                peer = self.tree.owner(partner)
                mine = buffer[self.tree.region(block, level + 1, buffer.size)]
                theirs = buffer[self.tree.region(partner, level + 1, buffer.size)]
                sends.append(Message(peer, self._tag(_Kind.PART_BROADCAST, level, partner), mine))
                receives.append(Message(peer, self._tag(_Kind.PART_BROADCAST, level, block), theirs))
            self.communicator.exchange(sends, receives)

    def all_gather_leaves(self, values: npt.NDArray[np.float64]) -> None:
        """Fill the rows of all leaves.

        Parameters
        ----------
        values
            float64 [leaves, k]: the rows of the rank's own leaves are filled at entry, all at return.
        """
        assert len(values) == self.tree.leaves and values.flags.c_contiguous
        rank, ranks = self.communicator.rank, self.communicator.size
        known = 1  # this rank has the rows of so many ranks, up to and with its own
        while known < ranks:
            count = min(known, ranks - known)
            to, source = (rank + known) % ranks, (rank - known) % ranks
            tag = self._tag(_Kind.GATHER_LEAVES)
            self.communicator.exchange(
                [Message(to, tag, values[rows]) for rows in self._rows(rank, count)],
                [Message(source, tag, values[rows]) for rows in self._rows(source, count)],
            )
            known += count

    def broadcast(self, array: npt.NDArray[Any], root: int) -> None:
        """Copy the root's contiguous array into those of all ranks (binomial tree)."""
        size = self.communicator.size
        place = (self.communicator.rank - root) % size  # the root's is 0
        tag = self._tag(_Kind.BROADCAST)
        if place:
            parent = place ^ (1 << (place.bit_length() - 1))
            self.communicator.exchange([], [Message((parent + root) % size, tag, array)])
        bits = range(place.bit_length(), (size - 1).bit_length())
        children = [place | 1 << bit for bit in bits if place | 1 << bit < size]
        self.communicator.exchange([Message((child + root) % size, tag, array) for child in children], [])

    def all_to_all(self, send: npt.NDArray[Any], recv: npt.NDArray[Any]) -> None:
        """Send row p to rank p and receive rank p's row into row p; contiguous [ranks, ...], disjoint."""
        rank, size = self.communicator.rank, self.communicator.size
        assert len(send) == len(recv) == size
        tag = self._tag(_Kind.ALL_TO_ALL)
        nearest_first = [(rank + distance) % size for distance in range(1, size)]
        transfer = self.communicator.post(
            [Message(peer, tag, send[peer]) for peer in nearest_first],
            [Message(peer, tag, recv[peer]) for peer in reversed(nearest_first)],
        )
        recv[rank] = send[rank]
        transfer.wait()

    def _partners(self, level: int) -> Iterator[tuple[int, int]]:
        """Yield the rank's blocks with their partners at a level, except partners on the same rank."""
        for block in self.tree.blocks_of(self.communicator.rank):
            partner = block ^ 1 << level
            if self.tree.owner(partner) != self.communicator.rank:
                yield block, partner

    def _chunks(
        self, level: int, buffer: npt.NDArray[np.float32]
    ) -> Iterator[tuple[int, int, npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        """Yield (block, partner, chunk to give, chunk to keep), the rank's blocks in turn.

        All ranks walk in the same order, level then offset then block, so that no two wait for each other.
        """
        length, chunk = buffer.size >> (level + 1), self._scratch.shape[1]
        for offset in range(0, length, chunk):
            for block, partner in self._partners(level):
                given = buffer[self.tree.region(partner, level + 1, buffer.size)]
                kept = buffer[self.tree.region(block, level + 1, buffer.size)]
                yield block, partner, given[offset : offset + chunk], kept[offset : offset + chunk]

    def _rows(self, last: int, count: int) -> list[slice]:
        """Return the rows of `count` ranks that end with rank `last`, counted around the circle."""
        first, stop = last - count + 1, self.tree.leaves_of(last).stop
        if first >= 0:
            return [slice(self.tree.leaves_of(first).start, stop)]
        first += self.tree.ranks
        return [slice(0, stop), slice(self.tree.leaves_of(first).start, self.tree.leaves)]

    def _tag(self, kind: _Kind, level: int = 0, block: int = 0) -> int:
        """Return the tag of a collective, level and receiving block; chunks of one tag arrive in order."""
        return (level * self.tree.blocks + block) * 8 + kind

    def _check(self, buffer: npt.NDArray[np.float32]) -> None:
        assert buffer.dtype == np.float32 and buffer.ndim == 1 and buffer.flags.c_contiguous
        assert buffer.size == self.tree.padded(buffer.size)


def _add_oldest(in_flight: deque[tuple[Transfer, npt.NDArray[np.float32], npt.NDArray[np.float32]]]) -> None:
    transfer, kept, received = in_flight.popleft()
    transfer.wait()
    np.add(kept, received, out=kept)
