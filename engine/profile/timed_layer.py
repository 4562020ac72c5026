"""Time every pass of every layer: wrap each in a layer that tells a recorder when it ran."""

from dataclasses import dataclass, field
from typing import final

from engine.graph import Node
from engine.graph.parallel.exchange import Exchange, Finish, StartsBackward
from engine.profile.recorder import Recorder
from layers.layer import Buffers, Context, Layer
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD
from layers.wrapped import WatchedLayer


def timed(node: Node, recorder: Recorder) -> Layer:
    """Return a node's layer with its passes timed."""
    kind = TimedExchange if isinstance(node.layer, Exchange) else TimedLayer
    return kind(node.layer, node.name, recorder=recorder)


@dataclass(frozen=True)
class TimedLayer(WatchedLayer):
    """A layer whose passes are timed; costs two readings of the clock a pass."""

    recorder: Recorder = field(repr=False, compare=False)

    def forward(self, at: Buffers, run: Context) -> None:
        """Time forward."""
        start = self.recorder.enter()
        self.layer.forward(at, run)
        self.recorder.leave(self.node, FORWARD, start)

    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Time backward_weights; without parameters there is nothing to time."""
        start = self.recorder.enter()
        self.layer.backward_weights(at, run)
        if at.gradients:
            self.recorder.leave(self.node, BACKWARD_WEIGHTS, start)

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Time backward_data."""
        start = self.recorder.enter()
        self.layer.backward_data(at, run)
        self.recorder.leave(self.node, BACKWARD_DATA, start)


@final
@dataclass(frozen=True)
class TimedExchange(TimedLayer):
    """An exchange whose passes are timed: the start of its backward pass, not the wait for messages."""

    def begin_backward_data(self, at: Buffers, run: Context) -> Finish:
        """Time the start of backward_data."""
        assert isinstance(self.layer, StartsBackward)
        start = self.recorder.enter()
        finish = self.layer.begin_backward_data(at, run)
        self.recorder.leave(self.node, BACKWARD_DATA, start)
        return finish
