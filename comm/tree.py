"""The fixed tree: in which order leaves are added, which rank owns what, whatever the number of ranks.

The leaves of a minibatch are cut into blocks, as many as the next power of two of the number of ranks. A sum
over all leaves is a balanced binary tree: inside a block by its rank, above by recursive halving, nearest
blocks first.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

STRIP_FLOATS = 16  # a strip is a multiple of this: one cache line of float32


@dataclass(frozen=True)
class Tree:
    """Ranks and leaves, both numbered from 0; made by `Tree.of`."""

    ranks: int
    leaves: int
    blocks: int

    @classmethod
    def of(cls, ranks: int, leaves: int) -> "Tree":
        """Spread a power of two of leaves over ranks."""
        if leaves < 1 or leaves & (leaves - 1):
            raise ValueError(f"leaves={leaves} must be a power of two")
        if not 1 <= ranks <= leaves:
            raise ValueError(
                f"{ranks} ranks but only {leaves} leaves: use at most {leaves} ranks, or more leaves"
            )
        return cls(ranks, leaves, 1 << (ranks - 1).bit_length())

    @property
    def levels(self) -> int:
        """Height of the tree above the blocks."""
        return self.blocks.bit_length() - 1

    @property
    def pairs(self) -> int:
        """Number of ranks, the first ones, that hold two blocks."""
        return self.blocks - self.ranks

    def blocks_of(self, rank: int) -> range:
        """Return the rank's blocks: a pair of siblings for the first ranks, one for the others."""
        if rank < self.pairs:
            return range(2 * rank, 2 * rank + 2)
        return range(rank + self.pairs, rank + self.pairs + 1)

    def leaves_of(self, rank: int) -> range:
        """Return the rank's leaves: an aligned power of two of them, so one subtree."""
        blocks, each = self.blocks_of(rank), self.leaves // self.blocks
        return range(blocks.start * each, blocks.stop * each)

    def owner(self, block: int) -> int:
        """Return the rank that holds a block."""
        return block // 2 if block < 2 * self.pairs else block - self.pairs

    def padded(self, floats: int) -> int:
        """Round a number of floats up to whole strips for all blocks."""
        unit = self.blocks * STRIP_FLOATS
        return -(-floats // unit) * unit

    def region(self, block: int, level: int, floats: int) -> slice:
        """Return what a block still holds of a buffer after `level` halvings.

        At level l block q halves its region with block q ^ (1 << l); the one whose bit l is 0 keeps the lower
        half.
        """
        start, length = 0, floats
        for bit in range(level):
            length //= 2
            start += length * (block >> bit & 1)
        return slice(start, start + length)

    def strip(self, block: int, floats: int) -> slice:
        """Return the part of a padded buffer whose sum ends up with a block: one of `blocks` equal strips."""
        assert floats == self.padded(floats)
        return self.region(block, self.levels, floats)

    def strips_of(self, rank: int, floats: int) -> tuple[slice, ...]:
        """Return the strips of the rank's blocks in ascending order; two of one rank never touch."""
        return tuple(self.strip(block, floats) for block in self.blocks_of(rank))


def tree_sum(leaf_values: npt.ArrayLike) -> Any:
    """Add a power of two of numbers, or of arrays along axis 0, as a balanced tree, neighbours first."""
    values = np.asarray(leaf_values)
    assert len(values) and len(values) & (len(values) - 1) == 0
    while len(values) > 1:
        values = values[::2] + values[1::2]
    return values[0]
