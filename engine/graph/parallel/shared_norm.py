"""Batch normalisation where several ranks share a group of samples: they exchange a few numbers a channel.

Each rank merges the moments of its own leaves, which are one or two blocks of the tree over leaves; the
ranks of a group then gather the rows of all its blocks, a small message, and merge them in the order of the
tree. The two sums of the backward pass go the same way. While there are no more ranks than groups, nothing is
sent.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self, final

import numpy as np

from comm.collectives import Collectives
from comm.comm_thread import CommandQueue
from comm.grid import Grid
from comm.tree import Tree
from engine.graph.graph import Graph, Node, Sharding
from engine.graph.parallel.exchange import URGENT
from layers.batch_norm import BatchNorm, values_of_leaf
from layers.given import changed_inside
from layers.layer import Buffers, Context, Layer
from layers.moments import Rows, add_rows, merge_moments
from layers.wrapped import WrappedLayer, find_inside


def share_norms(graph: Graph, grid: Grid, queue: CommandQueue) -> Graph:
    """Return the graph in which ranks that share a group of samples exchange its statistics.

    Parameters
    ----------
    graph
        With its groups set (`engine.graph.passes.norm_groups`) and its exchanges inserted.
    """
    world = grid.world
    block = world.tree.leaves // world.tree.blocks

    def shared(layer: Layer, *, node: Node) -> Layer:
        if not isinstance(layer, BatchNorm) or layer.group_leaves <= block:
            return layer
        assert node.held is Sharding.BATCH
        blocks = layer.group_leaves // block
        start = grid.own_leaves.start // layer.group_leaves * blocks
        first, last = world.tree.owner(start), world.tree.owner(start + blocks - 1)
        tree = Tree.of(last - first + 1, blocks)
        return SharedNorm(f"statistics {node.name}", layer, tree, first, block, world, queue)

    nodes = tuple(
        replace(node, layer=changed_inside(node.layer, partial(shared, node=node))) for node in graph
    )
    return Graph(graph.input_shape, nodes)


def shared_inside(layer: Layer) -> "SharedNorm | None":
    """Return the exchange inside all wrappers; None where there is none."""
    return find_inside(layer, SharedNorm)


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
        if not run.training:
            self.layer.forward(at, run)
            return
        gathered = self._start(self.layer.moments(at, run, self.block_leaves))
        count = values_of_leaf(at) * self.block_leaves
        self.layer.normalise(at, run, merge_moments(gathered(), count, self.tree.leaves))

    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Start the exchange of the sums, and write the gradients while it is on its way."""
        if at.dx and not at.data_first:
            at.finish_backward_data = self._start_dx(at, run)
            at = replace(at, data_first=True)  # the sums are there
        self.layer.backward_weights(at, run)

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx; the sums are those of the group on all its ranks."""
        finish = at.finish_backward_data or self._start_dx(at, run)
        at.finish_backward_data = None
        finish()

    def _start_dx(self, at: Buffers, run: Context) -> Callable[[], None]:
        gathered = self._start(self.layer.slopes(at, run, self.block_leaves, is_summed=False))
        return lambda: self.layer.write_dx(at, run, add_rows(gathered(), self.tree.leaves))

    def _start(self, own: Rows) -> Callable[[], Rows]:
        """Start to gather the rows of all blocks of the group; return a function that waits for them."""
        rows = np.zeros((self.tree.leaves, *own.shape[1:]))
        held = self.tree.leaves_of(self.world.communicator.rank - self.first)
        rows[held.start : held.stop] = own
        job = self.world.all_gather_among(rows, self.tree, self.first)
        request = self.queue.submit(job, name=self.name, priority=URGENT)

        def finish() -> Rows:
            request.wait()
            return rows

        return finish

    def exchange_alone(self, at: Buffers) -> None:
        """Exchange what a pass does, of zeros and without the pass."""
        held = self.tree.leaves_of(self.world.communicator.rank - self.first)
        self._start(np.zeros((len(held), *at.scratch["moments"].shape[1:])))()
