"""Set how the convolutions of a graph compute: their algorithms, and the order of a sum."""

from dataclasses import replace

from engine.graph import Graph
from layers.conv2d import Conv2d


def set_convolutions(graph: Graph, algorithm: str, feature_leaves: int) -> Graph:
    """Return the graph with the same settings in all convolutions.

    Parameters
    ----------
    algorithm
        "auto" allows Winograd, "direct" forbids it.
    feature_leaves
        Runs of output channels into which backward_data cuts its sum, where the channels divide that far.
    """
    nodes = tuple(
        replace(node, layer=replace(node.layer, algorithm=algorithm, feature_leaves=feature_leaves))
        if isinstance(node.layer, Conv2d)
        else node
        for node in graph
    )
    return Graph(graph.input_shape, nodes)
