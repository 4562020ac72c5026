"""Freeze nodes: their weights and state stay as they are, and nothing is computed or sent for them.

A frozen layer says of its parameters that they are not trained. All else follows from that: they have no
gradients, no velocities and no jobs, and no gradient is computed where no trained parameter has a part.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.graph.graph import Graph
from engine.graph.passes.patterns import check_patterns, first_matching
from layers.layer import Array, Buffers, Context, Parameter, Scratch, Shape
from layers.wrapped import WatchedLayer

_NOTED = "leaf_values "  # before the names of what forward notes and nobody reads


def freeze(graph: Graph, patterns: Iterable[str]) -> Graph:
    """Return the graph with the nodes frozen of `frozen_nodes`."""
    frozen = frozen_nodes(graph, patterns)
    nodes = (
        replace(node, layer=Frozen(node.layer, node.name)) if node.name in frozen else node for node in graph
    )
    return Graph(graph.input_shape, tuple(nodes))


def frozen_nodes(graph: Graph, patterns: Iterable[str]) -> set[str]:
    """Return the nodes that one of the patterns fits, and those whose layer says that it is not trained."""
    untrained = {
        node.name
        for node in graph
        if any(its.rate_factor == 0 for its in node.layer.parameters(*graph.input_shapes(node)).values())
    }
    return untrained | set(first_matching(graph, patterns))


def check_frozen(graph: Graph, patterns: Iterable[str]) -> None:
    """Raise UserError unless each pattern names a layer of a network, and a layer is left to train."""
    listed = tuple(patterns)
    check_patterns(graph, listed, "freeze")
    frozen = frozen_nodes(graph, listed)
    trained = [node for node in graph if node.layer.parameters(*graph.input_shapes(node))]
    if all(node.name in frozen for node in trained):
        what = f"freeze: got {', '.join(listed)}, which leaves" if listed else "model: it has"
        raise UserError(f"{what} no layer with weights to train")


@final
@dataclass(frozen=True)
class Frozen(WatchedLayer):
    """A layer that is not trained: forward and backward_data are as in training, dropout and all."""

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """Return the parameters, which are not trained."""
        its = self.layer.parameters(*inputs)
        return {name: replace(parameter, rate_factor=0.0) for name, parameter in its.items()}

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return the working memory, with room for what forward notes of each leaf."""
        noted = self.layer.leaf_values(*inputs)
        own = {
            f"{_NOTED}{name}": Scratch((leaves, *shape), dtype=np.float64) for name, shape in noted.items()
        }
        return self.layer.scratch(samples, leaves, threads, *inputs) | own

    def leaf_values(self, *inputs: Shape) -> dict[str, Shape]:
        """Return nothing: no rank has to know what forward notes, as the state stays."""
        return {}

    def update_state(
        self, state: dict[str, Array], leaf_values: Mapping[str, NDArray[np.float64]], step: int
    ) -> None:
        """Leave the state as it is."""

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        noted = {name: at.scratch[f"{_NOTED}{name}"] for name in self.layer.leaf_values(*at.shapes)}
        self.layer.forward(replace(at, leaf_values=noted) if noted else at, run)  # type: ignore[arg-type]

    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Compute nothing."""

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx, of which backward_weights has left nothing."""
        self.layer.backward_data(replace(at, data_first=True), run)
