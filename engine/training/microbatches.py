"""Microbatches, in which a rank computes its share of a minibatch, and the tree that adds their gradients.

A rank's leaves are a subtree of the fixed tree, so equal aligned runs of them are subtrees of that. The
gradients of a microbatch are the sum of its subtree; they are added as a binary counter does, so that no more
than one sum of each height waits for its sibling, and the result has the bits of a whole minibatch.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from comm.tree import Tree, is_power_of_two
from engine.config.errors import UserError
from engine.config.wording import counted, one_of
from engine.graph import Graph
from engine.graph.passes.norm_groups import norm_inside
from layers.layer import Buffers

Slot = tuple[int, int]
"""A buffer of partial gradients: the rank of the group whose samples they are of, and its place there."""


@dataclass(frozen=True, eq=False)
class Microbatch:
    """A run of a rank's samples of the minibatch, with the buffers of each node for it.

    All have the same arrays of values and their gradients, and the same working memory.
    """

    places: slice
    """Its samples among those of the global minibatch."""
    rows: slice
    """The same among those of the rank."""
    leaves: slice
    """Its leaves among those of the rank."""
    is_last: bool
    buffers: Mapping[str, Buffers]

    def __getitem__(self, name: str) -> Buffers:
        return self.buffers[name]


def slots(count: int, members: int) -> list[Slot]:
    """Return the buffers that gradients of so many microbatches need; (0, 0) has their sum in the end."""
    return [(member, place) for member in range(members) for place in range(count.bit_length())]


def additions(index: int, count: int, member: int = 0) -> tuple[Slot, list[tuple[Slot, Slot]]]:
    """Return where the gradients of a microbatch go, and which (sum, addend) are then complete.

    Parameters
    ----------
    member
        A layer that M ranks share has samples of each of them in a microbatch. First the sums of one rank are
        added, then those of the ranks, as their leaves are M subtrees of the group's.
    """
    top = index.bit_count()
    adds = [((member, top - level - 1), (member, top - level)) for level in range(_merges(index))]
    if index == count - 1:
        adds += [
            ((member + 1 - (2 << level), 0), (member + 1 - (1 << level), 0))
            for level in range(_merges(member))
        ]
    return (member, top), adds


def _merges(index: int) -> int:
    """Return how many sums become complete with one of a row of equal terms."""
    return (~index & (index + 1)).bit_length() - 1


def check_microbatches(count: int, tree: Tree, graph: Graph) -> None:
    """Raise UserError where the ranks cannot compute a minibatch in so many microbatches."""
    allowed = allowed_microbatches(tree, graph)
    if count not in allowed:
        raise UserError(
            f"accumulate: got {count} with {tree.leaves} leaves on {counted(tree.ranks, 'rank')}"
            f"{_together(tree, graph)}; {one_of(map(str, allowed)) if len(allowed) > 1 else 'must be 1'}"
        )


def allowed_microbatches(tree: Tree, graph: Graph) -> list[int]:
    """Return the numbers of microbatches into which every rank can cut its leaves, for all layers."""
    each = tree.leaves // tree.blocks
    together = max(node.layer.leaves_together(tree.leaves) for node in graph)
    most = max(1, each // together)
    assert is_power_of_two(most)
    return [1 << level for level in range(most.bit_length())]


def _together(tree: Tree, graph: Graph) -> str:
    """Return which layer wants the most leaves at once; empty where none wants several."""
    node = max(graph, key=lambda each: each.layer.leaves_together(tree.leaves))  # the first of them
    run = node.layer.leaves_together(tree.leaves)
    if run == 1:
        return ""
    is_norm = norm_inside(node.layer) is not None
    more = " (more norm_groups take fewer, with other bits)" if is_norm else ""
    return f", of which {node.name} takes {run} at once{more}"
