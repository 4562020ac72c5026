"""Batch normalisation where several ranks share a group of samples: they exchange a few numbers a channel.

Each rank merges the moments of its own leaves, which are one or two blocks of the tree over leaves; the
ranks of a group then gather the rows of all its blocks, a small message, and merge them in the order of the
tree. The two sums of the backward pass go the same way. While there are no more ranks than groups, nothing is
sent.
"""

from dataclasses import dataclass, field, replace
from typing import Self, final

import numpy as np

from comm.collectives import Collectives
from comm.comm_thread import CommandQueue
from comm.grid import Grid
from comm.tree import Tree
from engine.graph.graph import Graph, Sharding
from engine.graph.parallel.exchange import URGENT
from layers.batch_norm import BatchNorm
from layers.layer import Buffers, Context, Layer
from layers.moments import Rows
from layers.wrapped import WrappedLayer


def share_norms(graph: Graph, grid: Grid, queue: CommandQueue) -> Graph:
    """Return the graph in which ranks that share a group of samples exchange its statistics.

    Parameters
    ----------
    graph
        With its groups set (`engine.graph.passes.norm_groups`) and its exchanges inserted.
    """
    world = grid.world
    block = world.tree.leaves // world.tree.blocks
    nodes = []
    for node in graph:
        norm = node.layer
        if isinstance(norm, BatchNorm) and norm.group_leaves > block:
            assert node.held is Sharding.BATCH
            blocks = norm.group_leaves // block
            start = grid.own_leaves.start // norm.group_leaves * blocks
            first, last = world.tree.owner(start), world.tree.owner(start + blocks - 1)
            tree = Tree.of(last - first + 1, blocks)
            shared = SharedNorm(f"statistics {node.name}", norm, tree, first, block, world, queue)
            node = replace(node, layer=shared)  # noqa: PLW2901
        nodes.append(node)
    return Graph(graph.input_shape, tuple(nodes))


@final
@dataclass(frozen=True)
class SharedNorm(WrappedLayer):
    """A batch normalisation with the ranks of this one's group.

    All ranks submit its jobs, also one that has a group of its own: then no message is sent.

    Parameters
    ----------
    name
        Name of the jobs.
    tree
        The ranks of the group and its blocks: those are the leaves of this tree.
    first
        The first rank of the group, in `world`.
    block_leaves
        Leaves of a block.
    """

    name: str
    layer: BatchNorm
    tree: Tree
    first: int
    block_leaves: int
    world: Collectives = field(repr=False, compare=False)
    queue: CommandQueue = field(repr=False, compare=False)

    @property
    def inner(self) -> Layer:
        """The layer that is shared."""
        return self.layer

    def around(self, layer: Layer) -> Self:
        """Return the same exchange for another batch normalisation."""
        assert isinstance(layer, BatchNorm)
        return replace(self, layer=layer)

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y; the statistics are those of the group on all its ranks."""
        if run.training:
            self.layer.forward_in_group(at, run, self.block_leaves, self.gather)
        else:
            self.layer.forward(at, run)

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx; the sums are those of the group on all its ranks."""
        self.layer.backward_data_in_group(at, run, self.block_leaves, self.gather)

    def gather(self, own: Rows) -> Rows:
        """Return the rows of all blocks of the group, given those of this rank; the main thread waits."""
        rows = np.zeros((self.tree.leaves, *own.shape[1:]))
        held = self.tree.leaves_of(self.world.communicator.rank - self.first)
        rows[held.start : held.stop] = own
        job = self.world.all_gather_among(rows, self.tree, self.first)
        self.queue.submit(job, name=self.name, priority=URGENT).wait()
        return rows

    def exchange_alone(self, at: Buffers) -> None:
        """Exchange what a pass does, of zeros and without the pass."""
        held = self.tree.leaves_of(self.world.communicator.rank - self.first)
        self.gather(np.zeros((len(held), *at.scratch["moments"].shape[1:])))
