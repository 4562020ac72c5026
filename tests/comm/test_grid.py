"""Groups and parts: a group's leaves are a subtree, whatever the number of ranks."""

import pytest

from comm.collectives import Collectives
from comm.grid import Grid, check_parts
from comm.threads import run_ranks
from comm.tree import Tree

LEAVES = 16


@pytest.mark.parametrize(
    ("ranks", "parts"), [(1, 1), (3, 1), (2, 2), (4, 2), (6, 2), (10, 2), (12, 4), (16, 4), (8, 8), (16, 16)]
)
def test_the_leaves_of_a_group_are_those_of_its_members_and_a_subtree(ranks, parts):
    def work(world):
        grid = Grid.of(Collectives(world, Tree.of(world.size, LEAVES)), parts)
        return grid.part, grid.own_leaves, grid.group_leaves

    seen = run_ranks(ranks, work)
    for rank, (part, _, group) in enumerate(seen):
        assert part == rank % parts
        members = seen[rank - part : rank - part + parts]
        assert [leaf for _, own, _ in members for leaf in own] == list(group)
        assert len({len(own) for _, own, _ in members}) == 1
        assert len(group) & (len(group) - 1) == 0
        assert group.start % len(group) == 0


def test_ranks_of_a_group_and_of_a_part_know_each_other():
    def work(world):
        grid = Grid.of(Collectives(world, Tree.of(world.size, LEAVES)), 2)
        talk = grid.model.communicator, grid.data.communicator
        return [communicator.gather_objects(world.rank) for communicator in talk]

    assert run_ranks(6, work) == [
        [[0, 1], [0, 2, 4]], [[0, 1], [1, 3, 5]], [[2, 3], [0, 2, 4]],
        [[2, 3], [1, 3, 5]], [[4, 5], [0, 2, 4]], [[4, 5], [1, 3, 5]],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ranks", "parts", "message"),
    [
        (6, 3, "3 parts; must be a power of two"),
        (4, 0, "0 parts; must be a power of two"),
        (2, 4, "4 parts need at least 4 ranks, got 2"),
        (6, 4, "6 ranks are no whole groups of 4; must be a multiple of 4"),
    ],
)
def test_ranks_that_are_no_whole_groups_are_refused(ranks, parts, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_parts(ranks, parts)
