"""Time every pass of every layer: wrap each in a layer that tells a recorder when it ran."""

from dataclasses import dataclass, field, replace
from typing import final

from engine.graph import Graph
from engine.graph.passes.wrapped import WrappedLayer
from engine.profile.recorder import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD, Recorder
from layers.layer import Buffers, Context, Finish


def time_layers(graph: Graph, recorder: Recorder) -> Graph:
    """Return the graph with every layer timed; the last pass, as others look for kinds of layers."""
    nodes = tuple(replace(node, layer=TimedLayer(node.layer, node.name, recorder=recorder)) for node in graph)
    return Graph(graph.input_shape, nodes)


@final
@dataclass(frozen=True)
class TimedLayer(WrappedLayer):
    """Another layer in all it says and computes; costs two readings of the clock a pass."""

    recorder: Recorder = field(repr=False, compare=False)

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

    def backward_data_first(self, at: Buffers, run: Context) -> None:
        """Run the layer's, timed."""
        start = self.recorder.enter()
        self.layer.backward_data_first(at, run)
        self.recorder.leave(self.node, BACKWARD_DATA, start)

    def begin_backward_data(self, at: Buffers, run: Context) -> Finish:
        """Run the layer's, timed; what comes back finishes it."""
        start = self.recorder.enter()
        finish = self.layer.begin_backward_data(at, run)
        self.recorder.leave(self.node, BACKWARD_DATA, start)
        return finish
