"""A table of each layer's balance of computation and communication, by the paper's equations alone.

Nodes compute at their peak and send at their link's bandwidth, data parallel. A layer whose FLOP per byte are
below the platform's cannot hide its messages by itself; it may behind the layers around it (`bubble_s`).
"""

from dataclasses import dataclass
from typing import Any

from engine.config.wording import counted
from engine.graph import Graph
from engine.planner import balance
from engine.planner.cluster import Cluster

_FULL_DUPLEX = 1.0
"""Overlap of the two directions on a link, for what takes time. What counts bytes, such as the choice between
data and model parallelism, counts both directions, as `engine.planner.plans` does."""


@dataclass(frozen=True)
class LayerBalance:
    """The balance of one layer in data parallelism, for each node."""

    name: str
    flop: float
    """Computation of a step."""
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
    """The balance of all layers that multiply, beside the platform's."""

    cluster: Cluster
    nodes: int
    batch: int
    """Global minibatch."""
    layers: tuple[LayerBalance, ...]
    platform_flop_per_byte: float
    """FLOP that a node can do for each byte that it can send."""
    compute_s: float
    """Computation of a step at the nodes' peak."""
    exposed_s: float
    """Communication of a step that no computation hides."""

    @classmethod
    def of(cls, graph: Graph, cluster: Cluster, *, nodes: int, batch: int) -> "NetworkBalance":
        """Evaluate the equations for a network on some nodes of a cluster."""
        rates = {
            "flops_per_s": cluster.machine.flops_per_s / cluster.machine.hosts,
            "bytes_per_s": cluster.network.channel.bytes_per_s,
        }
        samples = batch / nodes
        named = [(node.name, node.layer.extents(*graph.input_shapes(node))) for node in graph]
        found = [(name, layer) for name, layer in named if layer is not None]
        flop = [balance.computation(layer, samples) for _, layer in found]
        volumes = [
            balance.data_parallel(layer, overlap=_FULL_DUPLEX) if nodes > 1 else 0.0 for _, layer in found
        ]
        compute = sum(flop) / rates["flops_per_s"]
        layers = (
            LayerBalance(
                name,
                flop[place],
                volumes[place],
                balance.intensity(layer, samples, overlap=_FULL_DUPLEX),
                balance.bubble(flop, volumes, place, **rates),
                balance.prefers_model_parallel(layer, batch),
                min(max(balance.best_groups(layer, batch, nodes), 1.0), nodes),
            )
            for place, (name, layer) in enumerate(found)
        )
        return cls(
            cluster,
            nodes,
            batch,
            tuple(layers),
            balance.platform_ratio(**rates),
            compute,
            balance.exposed(flop, volumes, **rates),
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
            f"{'layer':<{width}}  {'GFLOP':>9}  {'MB':>8}  {'FLOP/byte':>10}   {'waits':>12}  parallel  "
            "groups",
        ]
        for layer in self.layers:
            mark = "*" if layer.flop_per_byte < self.platform_flop_per_byte else " "
            lines.append(
                f"{layer.name:<{width}}  {layer.flop / 1e9:>9,.2f}  {layer.bytes / 1e6:>8,.2f}  "
                f"{layer.flop_per_byte:>10,.0f} {mark} {layer.bubble_s * 1e3:>9,.1f} ms  "
                f"{'model' if layer.prefers_model_parallel else 'data':<8}  {layer.best_groups:>6.1f}"
            )
        return [
            *lines,
            "",
            f"a step computes for {self.compute_s * 1e3:,.1f} ms at the peak and waits for "
            f"{self.exposed_s * 1e3:,.1f} ms: efficiency {self.efficiency:.0%}",
        ]
