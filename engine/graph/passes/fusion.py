"""Fuse a convolution with the ReLU and pooling behind it: the same bits, less memory traffic."""

from dataclasses import replace

from engine.graph import Graph, Node
from layers.conv2d import Conv2d
from layers.fused_conv2d import Conv2dReLU, Conv2dReLUPool
from layers.layer import Layer
from layers.max_pool import MaxPool
from layers.relu import ReLU


def fuse(graph: Graph) -> Graph:
    """Return the graph with fused convolutions; a fused node has the name of its convolution."""
    whole: dict[str, Node] = {}  # last of the fused nodes -> the node that replaces them
    gone: set[str] = set()
    for node in graph:
        if not isinstance(node.layer, Conv2d):
            continue
        last = _only_reader(graph, node)
        if last is None or not isinstance(last.layer, ReLU):
            continue
        layer: Layer = Conv2dReLU(node.layer)
        gone |= {node.name, last.name}
        pool = _only_reader(graph, last)
        if pool is not None and isinstance(pool.layer, MaxPool) and pool.layer.is_2x2:
            layer, last = Conv2dReLUPool(node.layer), pool
            gone.add(pool.name)
        whole[last.name] = replace(node, layer=layer)
    nodes = [whole.get(node.name, node) for node in graph if node.name in whole or node.name not in gone]
    names = {last: node.name for last, node in whole.items()}
    renamed = [replace(node, inputs=tuple(names.get(name, name) for name in node.inputs)) for node in nodes]
    return Graph(graph.input_shape, tuple(renamed))


def _only_reader(graph: Graph, node: Node) -> Node | None:
    readers = graph.readers(node.name)
    return readers[0] if len(readers) == 1 else None
