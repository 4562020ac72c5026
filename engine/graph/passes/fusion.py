"""Fuse layers with the elementwise ones behind them: the same bits, less memory traffic.

A convolution goes with its ReLU and 2x2 pooling, a batch normalisation with the sum with a shortcut and the
activation behind it.
"""

from collections.abc import Collection
from dataclasses import replace

from engine.graph import Graph, Node
from layers.add import Add
from layers.batch_norm import BatchNorm
from layers.conv2d import Conv2d
from layers.fused_conv2d import Conv2dReLU, Conv2dReLUPool
from layers.fused_norm import FusedBatchNorm, activation_of
from layers.layer import Layer, has_members_of
from layers.max_pool import MaxPool
from layers.relu import ReLU

Run = tuple[list[Node], Node]
"""Nodes one behind the other, and the node that replaces them."""

_PASSES = ("forward", "backward_weights", "backward_data")


def fuse(graph: Graph, rounded: Collection[str] = ()) -> Graph:
    """Return the graph with fused nodes, each with the name of its first.

    Parameters
    ----------
    rounded
        Names of nodes whose values are rounded to bf16 when they are stored.
    """
    runs = _runs(graph, rounded)
    gone = {each.name for run, _ in runs for each in run}
    whole = {run[-1].name: node for run, node in runs}  # by the last of the fused nodes
    nodes = [whole.get(node.name, node) for node in graph if node.name in whole or node.name not in gone]
    names = {last: node.name for last, node in whole.items()}
    renamed = [replace(node, inputs=tuple(names.get(name, name) for name in node.inputs)) for node in nodes]
    return Graph(graph.input_shape, tuple(renamed))


def together(graph: Graph) -> tuple[tuple[str, ...], ...]:
    """Return the names of the nodes that `fuse` makes one of, in order."""
    return tuple(tuple(node.name for node in run) for run, _ in _runs(graph))


def _runs(graph: Graph, rounded: Collection[str] = ()) -> list[Run]:
    found: list[Run] = []
    gone: set[str] = set()
    for node in graph:
        run = _convolution_run(graph, node) or _norm_run(graph, node, rounded)
        if run is None or any(each.name in gone for each in run[0]):  # a sum goes with one of its terms
            continue
        gone |= {each.name for each in run[0]}
        found.append(run)
    return found


def _convolution_run(graph: Graph, node: Node) -> Run | None:
    if not isinstance(node.layer, Conv2d) or not has_members_of(type(node.layer), Conv2d, _PASSES):
        return None
    relu = _only_reader(graph, node)
    if relu is None or type(relu.layer) is not ReLU:
        return None
    pool = _only_reader(graph, relu)
    if pool is not None and type(pool.layer) is MaxPool and pool.layer.is_2x2:
        return [node, relu, pool], replace(node, layer=Conv2dReLUPool(node.layer))
    return [node, relu], replace(node, layer=Conv2dReLU(node.layer))


def _norm_run(graph: Graph, node: Node, rounded: Collection[str]) -> Run | None:
    if type(node.layer) is not BatchNorm:  # a subclass may compute something else, or be fused already
        return None
    run, inputs = [node], node.inputs
    reader = _only_reader(graph, node)
    if (
        reader is not None
        and isinstance(reader.layer, Add)
        and len(set(reader.inputs)) == len(reader.inputs) == 2
    ):
        inputs += tuple(value for value in reader.inputs if value != node.name)
        run.append(reader)
        reader = _only_reader(graph, reader)
    activation = "" if reader is None else activation_of(reader.layer)
    if reader is not None and activation:
        run.append(reader)
    if len(run) == 1:
        return None
    layer: Layer = FusedBatchNorm(
        **vars(node.layer),
        adds=len(inputs) > 1,
        activation=activation,
        rounds=run[-1].name in rounded,
    )
    return run, replace(node, layer=layer, inputs=inputs)


def _only_reader(graph: Graph, node: Node) -> Node | None:
    readers = graph.readers(node.name)
    return readers[0] if len(readers) == 1 else None
