"""Cut the minibatch into groups for layers that normalise by the statistics of several samples."""

from collections.abc import Iterator
from dataclasses import replace

from engine.config.errors import UserError
from engine.config.wording import counted
from engine.graph.graph import Graph, Node
from layers.batch_norm import BatchNorm
from layers.given import changed_inside
from layers.layer import Layer
from layers.wrapped import find_inside

ENOUGH = 32
"""Samples that a group has where nobody asks for other groups: the usual share of one device. Statistics of
fewer are noisy."""


def groups_asked(asked: int, batch: int, leaves: int) -> int:
    """Return the groups of a minibatch; where 0 are asked for, the most that leave a group ENOUGH samples."""
    if asked:
        return asked
    groups = leaves
    while groups > 1 and batch // groups < ENOUGH:
        groups //= 2
    return groups


def grouped(graph: Graph, asked: int, batch: int, leaves: int) -> Graph:
    """Return the graph whose batch normalisations know how many leaves are a group; see `groups_asked`."""
    return set_norm_groups(graph, groups_asked(asked, batch, leaves), leaves)


def set_norm_groups(graph: Graph, groups: int, leaves: int) -> Graph:
    """Return the graph whose batch normalisations know how many leaves are a group.

    Parameters
    ----------
    groups
        Of layers that have no number of their own. Where there are fewer leaves, as in use after training,
        each is a group.
    """

    def of(layer: Layer) -> Layer:
        if isinstance(layer, BatchNorm):
            return replace(layer, group_leaves=max(1, leaves // (layer.groups or groups)))
        return layer

    nodes = tuple(replace(node, layer=changed_inside(node.layer, of)) for node in graph)
    return Graph(graph.input_shape, nodes)


def check_norm_groups(graph: Graph, leaves: int) -> None:
    """Raise UserError for the first layer that wants more groups than there are leaves."""
    for node, norm in _norms(graph):
        if norm.groups is not None and norm.groups > leaves:
            raise UserError(
                f"{node.name}: groups: got {norm.groups}; must be a power of two up to leaves = {leaves}"
            )


def norm_groups(graph: Graph, batch: int, leaves: int) -> str:
    """Return in words how the minibatch is cut, given a rank's graph; empty without any such layer."""
    by_groups: dict[int, list[str]] = {}
    for node, norm in _norms(graph):
        by_groups.setdefault(leaves // norm.group_leaves, []).append(node.name)
    said = [
        f"{counted(groups, 'group')} of {counted(batch // groups, 'sample')}"
        + (f" ({', '.join(names)})" if len(by_groups) > 1 else "")
        for groups, names in by_groups.items()
    ]
    return f"batch normalisation over {', '.join(said)}" if said else ""


def _norms(graph: Graph) -> Iterator[tuple[Node, BatchNorm]]:
    for node in graph:
        norm = norm_inside(node.layer)
        if norm is not None:
            yield node, norm


def norm_inside(layer: Layer) -> BatchNorm | None:
    """Return the batch normalisation inside all wrappers; None where there is none."""
    return find_inside(layer, BatchNorm)
