"""P ranks as G groups x M parts: ranks of a group share samples, ranks of a part share weights."""

from dataclasses import dataclass

from comm.collectives import Collectives
from comm.communicator import Communicator
from comm.tree import Tree


@dataclass(frozen=True)
class Grid:
    """One rank's place among G groups of M consecutive ranks; made by `Grid.of`.

    A group's leaves are an aligned subtree of the fixed tree, whatever G is, because the ranks that hold two
    blocks are whole groups. So what is summed over a group's leaves, and then over the groups, is added as
    the fixed tree has it.
    """

    world: Collectives
    """All ranks."""
    model: Collectives
    """The ranks of my group, one a part; as leaves of its tree they are parts."""
    data: Collectives
    """The ranks of my part, one a group; of its tree each holds the leaves of its group."""

    @classmethod
    def of(cls, world: Collectives, parts: int) -> "Grid":
        """See the ranks as groups of `parts` (collective).

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
        """Return the grid of communicators that are there already."""
        return cls(
            world,
            world.with_others(model, Tree.of(model.size, model.size)),
            world.with_others(data, Tree.of(data.size, world.tree.leaves)),
        )

    @property
    def parts(self) -> int:
        """M, the number of parts."""
        return self.model.communicator.size

    @property
    def part(self) -> int:
        """The part of this rank."""
        return self.model.communicator.rank

    @property
    def own_leaves(self) -> range:
        """The leaves of this rank."""
        return self.world.tree.leaves_of(self.world.communicator.rank)

    @property
    def group_leaves(self) -> range:
        """The leaves of this rank's group: those of its members, one behind the other."""
        return self.data.tree.leaves_of(self.data.communicator.rank)


def check_parts(ranks: int, parts: int) -> None:
    """Raise ValueError where so many ranks are no groups of `parts`."""
    if parts < 1 or parts & (parts - 1):
        raise ValueError(f"{parts} parts; must be a power of two")
    if ranks < parts:
        raise ValueError(f"{parts} parts need at least {parts} ranks, got {ranks}")
    if ranks % parts:
        raise ValueError(f"{ranks} ranks are no whole groups of {parts}; must be a multiple of {parts}")
