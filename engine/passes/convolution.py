"""Say which algorithm the convolutions of a graph may use."""

from dataclasses import replace

from engine.graph import Graph
from layers.conv2d import Conv2d


def set_convolutions(graph: Graph, algorithm: str) -> Graph:
    """Return the graph with all convolutions allowed Winograd ("auto") or not ("direct")."""
    nodes = tuple(
        replace(node, layer=replace(node.layer, algorithm=algorithm))
        if isinstance(node.layer, Conv2d)
        else node
        for node in graph
    )
    return Graph(graph.input_shape, nodes)
