"""Say how the convolutions of a graph compute: which algorithm, and how far they cut a sum."""

from dataclasses import replace

from engine.graph import Graph
from layers.conv2d import Conv2d


def set_convolutions(graph: Graph, algorithm: str, feature_leaves: int) -> Graph:
    """Return the graph with all convolutions allowed Winograd ("auto") or not ("direct"), and cut so far."""
    nodes = tuple(
        replace(node, layer=replace(node.layer, algorithm=algorithm, feature_leaves=feature_leaves))
        if isinstance(node.layer, Conv2d)
        else node
        for node in graph
    )
    return Graph(graph.input_shape, nodes)
