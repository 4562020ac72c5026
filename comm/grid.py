"""The grid of ranks: P ranks as G groups x M parts; a group shares samples, a part shares weights."""

from dataclasses import dataclass

from comm.collectives import Collectives
from comm.communicator import Communicator
from comm.tree import Tree, is_power_of_two


@dataclass(frozen=True)
class Grid:
    """One rank's place among G groups of M consecutive ranks; made by `Grid.of`.

    A group's leaves are an aligned subtree of the fixed tree, whatever G is, because the ranks that hold two
    blocks form whole groups. So a sum over a group's leaves, and then over groups, is the fixed tree's sum.
    """

    world: Collectives
    """All ranks."""
    model: Collectives
    """The ranks of my group, one a part; the leaves of this tree are parts."""
    data: Collectives
    """The ranks of my part, one a group; each holds its group's leaves in this tree."""

    @classmethod
    def of(cls, world: Collectives, parts: int) -> "Grid":
        """Divide all ranks into groups of `parts` consecutive ones (collective).

        Parameters
        ----------
        parts
            A power of two that divides the number of ranks.
        """
        communicator = world.communicator
        check_parts(communicator.size, parts)
        group, part = divmod(communicator.rank, parts)
        return cls.joined(world, communicator.split(group), communicator.split(part))

    @classmethod
    def joined(cls, world: Collectives, model: Communicator, data: Communicator) -> "Grid":
        """Make a grid from the communicators of my group and of my part."""
        return cls(
            world,
            world.with_others(model, Tree.of(model.size, model.size)),
            world.with_others(data, Tree.of(data.size, world.tree.leaves)),
        )

    @property
    def parts(self) -> int:
        """Number of parts, M."""
        return self.model.communicator.size

    @property
    def part(self) -> int:
        """Part of this rank, from 0 to M - 1."""
        return self.model.communicator.rank

    @property
    def own_leaves(self) -> range:
        """Leaves of this rank."""
        return self.world.tree.leaves_of(self.world.communicator.rank)

    @property
    def group_leaves(self) -> range:
        """Leaves of this rank's group: those of its members, in rank order."""
        return self.data.tree.leaves_of(self.data.communicator.rank)


def check_parts(ranks: int, parts: int) -> None:
    """Raise ValueError unless the ranks divide into groups of `parts`, a power of two."""
    if not is_power_of_two(parts):
        raise ValueError(f"{parts} parts; must be a power of two")
    if ranks < parts:
        raise ValueError(f"{parts} parts need at least {parts} ranks, got {ranks}")
    if ranks % parts:
        raise ValueError(f"{ranks} ranks are no whole groups of {parts}; must be a multiple of {parts}")
