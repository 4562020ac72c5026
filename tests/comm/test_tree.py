"""Ownership of blocks, leaves and strips, and the sum of a balanced tree."""

import numpy as np
import pytest

from comm.tree import Tree, ceil_div, is_power_of_two, next_power_of_two, previous_power_of_two, tree_sum
from tests.comm.sums import leaf_gradients, naive_tree

LEAVES = 16
every_size = pytest.mark.parametrize("ranks", range(1, LEAVES + 1))


@every_size
def test_every_leaf_has_one_rank_and_ranks_hold_them_in_order(ranks: int) -> None:
    tree = Tree.of(ranks, LEAVES)
    assert [leaf for rank in range(ranks) for leaf in tree.leaves_of(rank)] == list(range(LEAVES))


@every_size
def test_the_leaves_of_a_rank_are_one_subtree(ranks: int) -> None:
    tree = Tree.of(ranks, LEAVES)
    for held in map(tree.leaves_of, range(ranks)):
        assert len(held).bit_count() == 1
        assert held.start % len(held) == 0


@every_size
def test_owner_agrees_with_blocks_of(ranks: int) -> None:
    tree = Tree.of(ranks, LEAVES)
    owners = {block: rank for rank in range(ranks) for block in tree.blocks_of(rank)}
    assert owners == {block: tree.owner(block) for block in range(tree.blocks)}


@every_size
def test_strips_partition_the_buffer(ranks: int) -> None:
    tree = Tree.of(ranks, LEAVES)
    floats = tree.padded(1000)
    assert 1000 <= floats < 1000 + 16 * tree.blocks
    owners = np.zeros(floats, int)
    for rank in range(ranks):
        for strip in tree.strips_of(rank, floats):
            owners[strip] += 1
            assert strip.stop - strip.start == floats // tree.blocks
    assert (owners == 1).all()


def test_strip_number_is_the_block_with_its_bits_reversed() -> None:
    tree = Tree.of(8, LEAVES)
    starts = [tree.strip(block, tree.padded(1)).start // 16 for block in range(8)]
    assert starts == [0, 4, 2, 6, 1, 5, 3, 7]


def test_first_ranks_hold_pairs_when_ranks_are_no_power_of_two() -> None:
    tree = Tree.of(5, LEAVES)
    assert [tuple(tree.blocks_of(rank)) for rank in range(5)] == [(0, 1), (2, 3), (4, 5), (6,), (7,)]


def test_tree_refuses_more_ranks_than_leaves() -> None:
    with pytest.raises(ValueError, match="5 ranks but only 4 leaves: use at most 4 ranks"):
        Tree.of(5, 4)


def test_tree_refuses_no_ranks() -> None:
    with pytest.raises(ValueError, match="0 ranks"):
        Tree.of(0, 4)


@pytest.mark.parametrize("leaves", [0, 3, 12])
def test_tree_refuses_leaves_that_are_no_power_of_two(leaves: int) -> None:
    with pytest.raises(ValueError, match=f"leaves={leaves} must be a power of two"):
        Tree.of(1, leaves)


def test_tree_sum_is_the_balanced_tree() -> None:
    values = leaf_gradients(LEAVES, 50)
    assert (tree_sum(values) == naive_tree(values)).all()
    assert (tree_sum(values) != values.sum(axis=0)).any()


def test_tree_sum_adds_python_floats() -> None:
    assert tree_sum([0.1, 0.2, 0.3, 0.4]) == (0.1 + 0.2) + (0.3 + 0.4)


def test_powers_of_two_are_recognised_and_found() -> None:
    assert [number for number in range(-4, 20) if is_power_of_two(number)] == [1, 2, 4, 8, 16]
    assert [next_power_of_two(number) for number in range(1, 10)] == [1, 2, 4, 4, 8, 8, 8, 8, 16]
    assert [previous_power_of_two(number) for number in range(1, 10)] == [1, 2, 2, 4, 4, 4, 4, 8, 8]


def test_ceil_div_rounds_up() -> None:
    assert [ceil_div(number, 4) for number in range(9)] == [0, 1, 1, 1, 1, 2, 2, 2, 2]


def test_strips_are_whole_cache_lines_and_no_longer_than_that_takes() -> None:
    assert [Tree.of(1, 8).padded(floats) for floats in (0, 1, 16, 17)] == [0, 16, 16, 32]
    assert [Tree.of(3, 8).padded(floats) for floats in (1, 64, 65)] == [64, 64, 128]
