"""Sums over leaves as a balanced binary tree, done on a block while it is in cache.

A binary counter of partial blocks: after leaf l, one pair is added for each factor of two in
l + 1. Slot 0 holds the total after the last leaf, whose number must be a power of two.
"""

from layers.kernels.flush_mode import begin_flushing, end_flushing
from layers.kernels.jit import inline
from layers.kernels.simd import add_vectors


def stack_depth(leaves: int) -> int:
    """Return the number of partial blocks that the tree over `leaves` needs at once."""
    return leaves.bit_length()


@inline
def merges(leaf):
    """Return the number of partial blocks that are merged once `leaf` is done."""
    done, number = leaf + 1, 0
    while done % 2 == 0:
        number += 1
        done //= 2
    return number


@inline
def tree_add(base, level, top, leaf, vectors):
    """Add what became complete with `leaf`, whose partial block lies in slot `top`.

    Parameters
    ----------
    base, level : int64
        Address of slot 0 and distance of slots in bytes.
    vectors : int64
        Size of a block.

    Returns
    -------
    int64
        The slot for the next leaf.
    """
    return tree_merge(base, level, top, merges(leaf), vectors) + 1


@inline
def tree_add_unflushed(base, level, top, leaf, vectors):
    """Do the same in a kernel that flushes: ranks add what leaves they have, and keep subnormal numbers."""
    number = merges(leaf)
    if number > 0:
        end_flushing()
        top = tree_merge(base, level, top, number, vectors)
        begin_flushing()
    return top + 1


@inline
def tree_merge(base, level, top, number, vectors):
    """Merge the `number` + 1 partial blocks up to slot `top`, last ones first; return the slot of the sum."""
    for _ in range(number):
        add_vectors(base + (top - 1) * level, base + top * level, vectors)
        top -= 1
    return top
