"""A graph of the engine, described in the words of the naive trainer."""

from zlib import crc32

import numpy as np

from engine.graph import Graph, Node
from layers.add import Add
from layers.avg_pool import AvgPool
from layers.batch_norm import BatchNorm
from layers.concat import Concat
from layers.conv2d import Conv2d
from layers.dropout import Dropout
from layers.flatten import Flatten
from layers.group_norm import GroupNorm
from layers.layer_norm import LayerNorm
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.reference import dropout
from layers.relu import ReLU
from layers.sigmoid import Sigmoid

NAMES = {Linear: "linear", ReLU: "relu", Sigmoid: "sigmoid", Flatten: "flatten", Add: "add", Concat: "concat"}


def naive_network(graph: Graph, norm_groups: int = 1) -> list[dict]:
    """Describe a graph; `norm_groups` are those of batch normalisations that have none of their own."""
    network = [
        {"name": node.name, "inputs": list(node.inputs), **_operation(node, graph.input_shapes(node)[0])}
        for node in graph
    ]
    return [{"groups": norm_groups} | each if each["op"] == "batch_norm" else each for each in network]


def naive_network_of_step(graph: Graph, seed: int, step: int, samples: np.ndarray) -> list[dict]:
    """Describe a graph with dropout: which elements are kept depends on the step and on the samples."""
    described = []
    for node in graph:
        shape = graph.input_shapes(node)[0]
        if isinstance(node.layer, Dropout):
            key, probability = crc32(node.name.encode()), node.layer.probability
            kept = [
                dropout.mask(int(np.prod(shape)), probability, seed, step, int(sample), key)
                for sample in samples
            ]
            mask = np.array(kept).reshape(len(samples), *shape) / (1 - probability)
            described.append({"name": node.name, "inputs": list(node.inputs), "op": "mask", "mask": mask})
        else:
            described.append({"name": node.name, "inputs": list(node.inputs), **_operation(node, shape)})
    return described


def _operation(node: Node, shape: tuple[int, ...]) -> dict:
    match node.layer:
        case Conv2d(stride=stride, padding=padding):
            pair = (padding, padding) if isinstance(padding, int) else padding
            return {"op": "conv", "stride": stride, "padding": pair}
        case MaxPool(window=window, stride=stride, padding=padding):
            return {"op": "max_pool", "window": _pair(window), "stride": stride, "padding": padding}
        case AvgPool(window=window, stride=stride):
            return {
                "op": "avg_pool",
                "window": shape[1:] if window is None else _pair(window),
                "stride": stride,
            }
        case BatchNorm(groups=groups, epsilon=epsilon, momentum=momentum, scaled=scaled):
            described = {"op": "batch_norm", "epsilon": epsilon, "momentum": momentum, "scaled": scaled}
            return described if groups is None else described | {"groups": groups}
        case GroupNorm(epsilon=epsilon) | LayerNorm(epsilon=epsilon) as layer:
            groups = layer.groups if isinstance(layer, GroupNorm) else 1
            return {"op": "group_norm", "groups": groups, "epsilon": epsilon}
        case layer:
            return {"op": NAMES[type(layer)]}


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
