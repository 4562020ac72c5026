"""Let layers add their gradients to those of earlier microbatches, in the order of the tree."""

from dataclasses import dataclass, replace
from typing import final

from engine.graph.graph import Graph
from layers.kernels import add
from layers.layer import Buffers, Context
from layers.wrapped import WatchedLayer


def accumulate(graph: Graph, microbatches: int) -> Graph:
    """Return the graph with layers that accumulate; the same graph for a whole minibatch."""
    if microbatches == 1:
        return graph
    nodes = tuple(
        replace(node, layer=Accumulated(node.layer, node.name))
        if node.layer.parameters(*graph.input_shapes(node))
        else node
        for node in graph
    )
    return Graph(graph.input_shape, nodes)


@final
@dataclass(frozen=True)
class Accumulated(WatchedLayer):
    """A layer that is given one microbatch after the other, and adds up the gradients of its parameters."""

    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Write the gradients of this microbatch, and add what became complete with it."""
        self.layer.backward_weights(at, run)
        for partial in at.partial_sums:
            for total, addend in partial.adds:
                add.add_flat(run.threads, total, addend)
