"""Time every pass of every layer: wrap each in a layer that tells a recorder when it ran."""

from dataclasses import dataclass, field, replace
from typing import Self

from engine.graph import Graph
from engine.trace import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD, Recorder
from layers.layer import Buffers, Context, Halo, Layer, Parameter, Scratch, Shape


def time_layers(graph: Graph, recorder: Recorder) -> Graph:
    """Return the graph with every layer timed; the last pass, as others look for kinds of layers."""
    nodes = tuple(replace(node, layer=TimedLayer(node.layer, node.name, recorder)) for node in graph)
    return Graph(graph.input_shape, nodes)


@dataclass(frozen=True)
class TimedLayer(Layer):
    """Another layer in all it says and computes; costs two readings of the clock a pass."""

    layer: Layer
    node: str
    recorder: Recorder = field(repr=False, compare=False)
    outputs: int = field(init=False)
    reads_x: bool = field(init=False)
    reads_y: bool = field(init=False)
    in_place: bool = field(init=False)
    elementwise: bool = field(init=False)

    def __post_init__(self) -> None:
        for name in ("outputs", "reads_x", "reads_y", "in_place", "elementwise"):
            object.__setattr__(self, name, getattr(self.layer, name))

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the layer's."""
        return self.layer.output_shape(*inputs)

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """Return the layer's."""
        return self.layer.parameters(*inputs)

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return the layer's."""
        return self.layer.scratch(samples, leaves, threads, *inputs)

    def halo(self, *inputs: Shape) -> Halo:
        """Return the layer's."""
        return self.layer.halo(*inputs)

    def gradient_halo(self, *inputs: Shape) -> Halo:
        """Return the layer's."""
        return self.layer.gradient_halo(*inputs)

    def shard(self, parts: int) -> tuple[Self, ...]:
        """Return the shards of the layer, timed."""
        return tuple(replace(self, layer=layer) for layer in self.layer.shard(parts))

    def flops(self, *inputs: Shape) -> int:
        """Return the layer's."""
        return self.layer.flops(*inputs)

    def forward(self, at: Buffers, run: Context) -> None:
        """Run the layer's, timed."""
        start = self.recorder.enter()
        self.layer.forward(at, run)
        self.recorder.leave(self.node, FORWARD, start)

    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Run the layer's, timed; without parameters there is nothing to time."""
        start = self.recorder.enter()
        self.layer.backward_weights(at, run)
        if at.gradients:
            self.recorder.leave(self.node, BACKWARD_WEIGHTS, start)

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Run the layer's, timed."""
        start = self.recorder.enter()
        self.layer.backward_data(at, run)
        self.recorder.leave(self.node, BACKWARD_DATA, start)
