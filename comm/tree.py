"""The fixed tree: the order of additions over leaves, the same on any number of ranks, and who owns what.

The leaves of a minibatch are divided into blocks: the number of ranks, rounded up to a power of two. A sum
over all leaves is a balanced binary tree: below a block its rank adds, above it recursive halving does,
nearest blocks first.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

STRIP_FLOATS = 16  # a strip is a multiple of one cache line (16 float32): no two ranks' strips share one


@dataclass(frozen=True)
class Tree:
    """Assignment of leaves, blocks and strips to ranks, all numbered from 0; made by `Tree.of`."""

    ranks: int
    leaves: int
    blocks: int

    @classmethod
    def of(cls, ranks: int, leaves: int) -> "Tree":
        """Distribute leaves, a power of two of them, over at most as many ranks."""
        if not is_power_of_two(leaves):
            raise ValueError(f"leaves={leaves} must be a power of two")
        if not 1 <= ranks <= leaves:
            raise ValueError(
                f"{ranks} ranks but only {leaves} leaves: use at most {leaves} ranks, or more leaves"
            )
        return cls(ranks, leaves, next_power_of_two(ranks))

    @property
    def levels(self) -> int:
        """Height of the tree above the blocks."""
        return self.blocks.bit_length() - 1

    @property
    def pairs(self) -> int:
        """Number of ranks that hold two blocks: the first ones."""
        return self.blocks - self.ranks

    def blocks_of(self, rank: int) -> range:
        """Return a rank's blocks: two siblings for the first `pairs` ranks, one for each other rank."""
        if rank < self.pairs:
            return range(2 * rank, 2 * rank + 2)
        return range(rank + self.pairs, rank + self.pairs + 1)

    def leaves_of(self, rank: int) -> range:
        """Return a rank's leaves: an aligned run of a power of two, which is one subtree."""
        blocks, each = self.blocks_of(rank), self.leaves // self.blocks
        return range(blocks.start * each, blocks.stop * each)

    def owner(self, block: int) -> int:
        """Return the rank that owns a block."""
        return block // 2 if block < 2 * self.pairs else block - self.pairs

    def padded(self, floats: int) -> int:
        """Round a buffer's length up, so that all blocks get strips of equal length."""
        unit = self.blocks * STRIP_FLOATS
        return ceil_div(floats, unit) * unit

    def region(self, block: int, level: int, floats: int) -> slice:
        """Return the region of a buffer that a block still adds up after `level` halvings.

        At level l block q shares its region with block q ^ (1 << l): the block whose bit l is 0 keeps the
        lower half, the other one the upper.
        """
        start, length = 0, floats
        for bit in range(level):
            length //= 2
            start += length * (block >> bit & 1)
        return slice(start, start + length)

    def strip(self, block: int, floats: int) -> slice:
        """Return the strip of a padded buffer that a block owns: its region after all halvings."""
        assert floats == self.padded(floats)
        return self.region(block, self.levels, floats)

    def strips_of(self, rank: int, floats: int) -> tuple[slice, ...]:
        """Return the strips of a rank's blocks in ascending order; two of one rank never adjoin."""
        return tuple(self.strip(block, floats) for block in self.blocks_of(rank))


def tree_sum(leaf_values: npt.ArrayLike) -> Any:
    """Add numbers, or arrays along axis 0, as a balanced tree, neighbours first; a power of two of them."""
    values = np.asarray(leaf_values)
    assert is_power_of_two(len(values))
    while len(values) > 1:
        values = values[::2] + values[1::2]
    return values[0]


def is_power_of_two(number: int) -> bool:
    """Test whether an integer is 1, 2, 4, ..."""
    return number > 0 and number & (number - 1) == 0


def next_power_of_two(number: int) -> int:
    """Round a positive integer up to a power of two."""
    return 1 << (number - 1).bit_length()


def previous_power_of_two(number: int) -> int:
    """Round a positive integer down to a power of two."""
    return 1 << (number.bit_length() - 1)


def ceil_div(number: int, divisor: int) -> int:
    """Divide integers, rounding up."""
    return -(-number // divisor)
