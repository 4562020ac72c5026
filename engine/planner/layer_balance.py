"""A table of each layer's balance of computation and communication, by the paper's equations alone.

Nodes compute at their peak and send at their link's bandwidth, data parallel. A layer whose FLOP per byte are
below the platform's cannot hide its messages by itself; it may behind the layers around it (`bubble_s`). What
multiplies no matrices, such as a normalisation, takes as long as its values at the memory's bandwidth.
"""

import math
from dataclasses import dataclass
from typing import Any

from engine.config.wording import counted
from engine.graph import Graph, Node
from engine.graph.passes.fusion import fuse
from engine.planner import balance
from engine.planner.cluster import Cluster
from layers.work import PASSES

_FULL_DUPLEX = 1.0
"""Overlap of the two directions on a link, for what takes time. What counts bytes, such as the choice between
data and model parallelism, counts both directions, as `engine.planner.plans` does."""


@dataclass(frozen=True)
class LayerBalance:
    """The balance of one layer in data parallelism, for each node."""

    name: str
    flop: float
    """Computation of a step."""
    moved_bytes: float
    """What elementwise kernels read and write in a step; operands of matrix products do not count."""
    compute_s: float
    """All passes of a step: their FLOP at the node's peak, or their bytes at its memory's bandwidth."""
    bytes: float
    """Gradients or weights of a step, in one direction."""
    flop_per_byte: float
    bubble_s: float
    """Seconds that the layer waits for its messages with nothing left to hide them behind."""
    prefers_model_parallel: bool
    """Whether activations would be fewer bytes than weights."""
    best_groups: float
    """Number of groups G* for which a hybrid sends fewest bytes, from 1 to the number of nodes."""


@dataclass(frozen=True)
class NetworkBalance:
    """The balance of all layers with weights, beside the platform's."""

    cluster: Cluster
    nodes: int
    batch: int
    """Global minibatch."""
    layers: tuple[LayerBalance, ...]
    platform_flop_per_byte: float
    """FLOP that a node can do for each byte that it can send."""
    compute_s: float
    """Computation of a step at the nodes' peak and at their memory's bandwidth, all layers."""
    memory_s: float
    """The part of it that is bound by memory."""
    exposed_s: float
    """Communication of a step that no computation hides."""

    @classmethod
    def of(cls, graph: Graph, cluster: Cluster, *, nodes: int, batch: int) -> "NetworkBalance":
        """Evaluate the equations for a network, its layers fused, on some nodes of a cluster."""
        graph, machine = fuse(graph), cluster.machine
        flops_per_s, memory_bytes_per_s = (
            rate / machine.hosts for rate in (machine.flops_per_s, machine.memory_bytes_per_s)
        )
        bytes_per_s = cluster.network.channel.bytes_per_s
        works = [_Work.of(node, graph, batch / nodes) for node in graph]
        times = [each.seconds(flops_per_s, memory_bytes_per_s) for each in works]
        volumes = [each.weights_bytes / bytes_per_s if nodes > 1 else 0.0 for each in works]
        seconds = {"flops_per_s": 1.0, "bytes_per_s": 1.0}  # both are seconds already
        layers = (
            _row(
                node,
                graph,
                works[place],
                times[place],
                balance.bubble(times, volumes, place, **seconds),
                nodes=nodes,
                batch=batch,
            )
            for place, node in enumerate(graph)
            if works[place].weights_bytes
        )
        bound = (t for each, t in zip(works, times, strict=True) if each.flop / flops_per_s < t / 2)
        return cls(
            cluster,
            nodes,
            batch,
            tuple(layers),
            balance.platform_ratio(flops_per_s, bytes_per_s),
            sum(times),
            sum(bound),
            balance.exposed(times, volumes, **seconds),
        )

    @property
    def efficiency(self) -> float:
        """Scaling efficiency of data parallelism."""
        return balance.efficiency(self.compute_s, self.exposed_s) if self.compute_s else 1.0

    def to_json(self) -> dict[str, Any]:
        """Return all figures, as `--json` prints them."""
        return {
            "cluster": self.cluster.name,
            "nodes": self.nodes,
            "batch": self.batch,
            "platform_flop_per_byte": self.platform_flop_per_byte,
            "compute_seconds": self.compute_s,
            "memory_seconds": self.memory_s,
            "exposed_seconds": self.exposed_s,
            "efficiency": self.efficiency,
            "layers": [vars(layer) for layer in self.layers],
        }

    def lines(self) -> list[str]:
        """Return a table as lines of text, a row for each layer."""
        width = max(map(len, ("layer", *(layer.name for layer in self.layers))))
        lines = [
            f"minibatch {self.batch} on {counted(self.nodes, 'node')} of {self.cluster.name}, data parallel, "
            "by the balance equations",
            f"a node can do {self.platform_flop_per_byte:,.0f} FLOP for each byte that it sends; * marks "
            "layers with fewer",
            "",
            f"{'layer':<{width}}  {'GFLOP':>9}  {'moves':>11}  {'takes':>11}  {'MB':>8}  {'FLOP/byte':>10}   "
            f"{'waits':>12}  parallel  groups",
        ]
        for layer in self.layers:
            mark = "*" if layer.flop_per_byte < self.platform_flop_per_byte else " "
            lines.append(
                f"{layer.name:<{width}}  {layer.flop / 1e9:>9,.2f}  {layer.moved_bytes / 1e6:>8,.1f} MB  "
                f"{layer.compute_s * 1e3:>8,.2f} ms  {layer.bytes / 1e6:>8,.2f}  "
                f"{layer.flop_per_byte:>10,.0f} {mark} {layer.bubble_s * 1e3:>9,.1f} ms  "
                f"{'model' if layer.prefers_model_parallel else 'data':<8}  {layer.best_groups:>6.1f}"
            )
        return [
            *lines,
            "",
            f"a step computes for {self.compute_s * 1e3:,.1f} ms at the peak, {self.memory_s * 1e3:,.1f} ms "
            "of it bound by memory (layers without weights included), and waits for "
            f"{self.exposed_s * 1e3:,.1f} ms: efficiency {self.efficiency:.0%}",
        ]


@dataclass(frozen=True)
class _Work:
    """What a node does on one rank in a step."""

    flop: float
    moved_bytes: float
    weights_bytes: float
    multiplies: bool
    """Matrices, whose operands are not among the bytes moved."""

    @classmethod
    def of(cls, node: Node, graph: Graph, samples: float) -> "_Work":
        layer, inputs = node.layer, graph.input_shapes(node)
        floats = sum(layer.elementwise_floats(direction, *inputs) for direction in PASSES)
        moved, form = balance.FLOAT * samples * floats, layer.extents(*inputs)
        if form is not None:
            sent = balance.data_parallel(form, overlap=_FULL_DUPLEX)
            return cls(balance.computation(form, samples), moved, sent, multiplies=True)
        weights = sum(math.prod(each.shape) for each in layer.parameters(*inputs).values())
        flop = len(PASSES) * samples * layer.flops(*inputs)
        return cls(flop, moved, balance.FLOAT * weights, multiplies=False)

    def seconds(self, flops_per_s: float, memory_bytes_per_s: float) -> float:
        """Return the time of its passes: elementwise kernels come beside a product, or are all there is."""
        computing, moving = self.flop / flops_per_s, self.moved_bytes / memory_bytes_per_s
        return computing + moving if self.multiplies else max(computing, moving)


def _row(
    node: Node, graph: Graph, work: _Work, seconds: float, bubble: float, *, nodes: int, batch: int
) -> LayerBalance:
    form = node.layer.extents(*graph.input_shapes(node))
    return LayerBalance(
        node.name,
        work.flop,
        work.moved_bytes,
        seconds,
        work.weights_bytes if nodes > 1 else 0.0,
        work.flop / work.weights_bytes,
        bubble,
        form is not None and balance.prefers_model_parallel(form, batch),
        nodes if form is None else min(max(balance.best_groups(form, batch, nodes), 1.0), nodes),
    )
