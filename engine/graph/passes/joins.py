"""Join gradients where a convolution stores its own: the same bits, less memory traffic.

A value with two readers has the sum of their gradients. The reader whose backward pass comes last adds the
other's to its own while it is in registers, so that the Fork between has nothing to do. Where a ReLU made the
value, it stores the gradient before that at once, which the normalisation in front of the ReLU, and what was
added to it, then read as it is.
"""

from dataclasses import replace

from engine.graph.graph import Graph, Node
from layers.conv2d import Conv2d
from layers.fork import Fork
from layers.fused_norm import FusedBatchNorm
from layers.joining_conv2d import JoiningConv2d
from layers.layer import Layer


def join_gradients(graph: Graph) -> Graph:
    """Return the graph, its forks inserted, with convolutions that join where that can be."""
    makers = {value: node for node in graph for value in node.outputs}
    changed: dict[str, Layer] = {}
    for fork in graph:
        if type(fork.layer) is not Fork or fork.layer.outputs > 2:
            continue
        reader = _last_backward(graph, fork)
        if type(reader.layer) is not Conv2d or reader.shards:
            continue
        if not reader.layer.can_join(*graph.input_shapes(reader)):
            continue
        maker = makers.get(fork.inputs[0])
        rectifies = maker is not None and _is_rectified_sum(maker.layer)
        changed[fork.name] = replace(fork.layer, joined=fork.outputs.index(reader.inputs[0]))
        changed[reader.name] = JoiningConv2d(reader.layer, rectifies)
        if maker is not None and rectifies:
            assert isinstance(maker.layer, FusedBatchNorm)
            changed[maker.name] = replace(maker.layer, rectified=True)
    nodes = (replace(node, layer=changed.get(node.name, node.layer)) for node in graph)
    return Graph(graph.input_shape, tuple(nodes))


def _last_backward(graph: Graph, fork: Node) -> Node:
    """Return the reader of a fork's outputs that comes first, whose backward pass is the last."""
    return next(node for node in graph if not set(fork.outputs).isdisjoint(node.inputs))


def _is_rectified_sum(layer: Layer) -> bool:
    return type(layer) is FusedBatchNorm and layer.adds and layer.activation == "relu"
