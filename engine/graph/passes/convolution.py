"""Set how the convolutions of a graph compute: their algorithms, and the order of a sum."""

from dataclasses import replace

from engine.graph import Graph
from layers.conv2d import Conv2d
from layers.given import changed_inside
from layers.grouped_conv2d import GroupedConv2d
from layers.layer import Layer


def set_convolutions(graph: Graph, algorithm: str, feature_leaves: int) -> Graph:
    """Return the graph with the same settings in all convolutions.

    Parameters
    ----------
    algorithm
        "auto" allows Winograd, "direct" forbids it.
    feature_leaves
        Runs of output channels into which backward_data cuts its sum, where the channels divide that far.
    """

    def of(layer: Layer) -> Layer:
        if isinstance(layer, Conv2d):
            return replace(layer, algorithm=algorithm, feature_leaves=feature_leaves)
        return replace(layer, algorithm=algorithm) if isinstance(layer, GroupedConv2d) else layer

    return Graph(
        graph.input_shape, tuple(replace(node, layer=changed_inside(node.layer, of)) for node in graph)
    )
