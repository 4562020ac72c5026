"""Overlap an exchange's backward messages with the weight gradient of the layer that reads its value.

The two become one node. In its place the step computes the data gradient of the layer first, starts the
exchange's messages with it, computes the weight gradient while they travel, and only then waits for them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, final

from engine.graph.graph import Graph, Node
from engine.graph.parallel.exchange import Exchange, StartsBackward
from layers.kernels.simd import LANES
from layers.layer import NO_HALO, Array, Buffers, Context, Halo, Layer, Scratch, Shape
from layers.layout import interior, storage_shape
from layers.wrapped import WrappedLayer, unwrapped

_VALUE, _GRADIENT = "exchanged", "exchanged_gradient"
_MEMBER = "of a member:"
"""Before the names of the working memory for the samples of one rank."""


def overlap_exchanges(graph: Graph, *, members: int = 1) -> Graph:
    """Merge each exchange with the layer that reads it, where that has weights.

    Layers may be wrapped already: then the exchange and the layer inside each node are watched one by one.

    Parameters
    ----------
    members
        Ranks whose samples a shard takes one after the other in backward_weights: all that share the layer
        where the minibatch is cut into microbatches.
    """
    exchanges = {node.name: node for node in graph if isinstance(unwrapped(node.layer), Exchange)}
    merged: set[str] = set()
    nodes: list[Node] = []
    for node in graph:
        before = exchanges.get(node.inputs[0])
        reads_nothing_else = len(node.inputs) == 1  # a fused norm may read a shortcut, too
        if before is not None and reads_nothing_else and node.layer.parameters(*graph.input_shapes(node)):
            merged.add(before.name)
            node = _merged(before, node, members)  # noqa: PLW2901
        nodes.append(node)
    return Graph(graph.input_shape, tuple(node for node in nodes if node.name not in merged))


def layers_of(layer: Layer, at: Buffers) -> Iterator[tuple[Layer, Buffers]]:
    """Yield a node's layer, or its exchange and the layer behind that, each with its own buffers."""
    if isinstance(layer, OverlappedExchange):
        assert isinstance(layer.exchange, Layer)
        yield layer.exchange, layer.exchange_buffers(at)
        yield layer.layer, layer.layer_buffers(at)
    else:
        yield layer, at


def _merged(before: Node, node: Node, members: int) -> Node:
    assert isinstance(before.layer, StartsBackward)
    overlapped = OverlappedExchange(before.layer, node.layer, members if node.shards else 1)
    shards = tuple(map(overlapped.around, node.shards))
    return replace(node, inputs=before.inputs, layer=overlapped, shards=shards)


@final
@dataclass(frozen=True)
class OverlappedExchange(WrappedLayer):
    """An exchange and the layer that reads its value.

    No other node runs between the two backward passes, so that the exchange may keep its pieces in scratch
    that nodes share.
    """

    exchange: StartsBackward
    layer: Layer
    members: int = 1
    """Ranks whose samples backward_weights takes one after the other."""

    differs: ClassVar[Mapping[str, Any]] = {"reads_x": False, "in_place": False, "featurewise": False}

    @property
    def inner(self) -> Layer:
        """The layer that reads the exchanged value."""
        return self.layer

    def around(self, layer: Layer) -> Self:
        """Return another layer behind the same exchange."""
        return replace(self, layer=layer)

    def inner_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        """Return the shape of the exchanged value."""
        return (self.exchange.output_shape(*inputs),)

    def halo(self, *inputs: Shape) -> Halo:
        """Return no halo: the exchange copies its input, and the exchanged value lies in scratch."""
        return NO_HALO

    def input_lanes(self, *inputs: Shape) -> int:
        """Return whole blocks: they are what the exchange copies."""
        return LANES

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return the working memory of both, and the value between them with its gradient."""
        (between,) = self.inner_shapes(*inputs)
        of_member = dict[str, Scratch]()
        if self.members > 1:
            of_member = self.layer.scratch(samples // self.members, leaves // self.members, threads, between)
        return {
            **{f"{_MEMBER} {name}": scratch for name, scratch in of_member.items() if not scratch.kept},
            _VALUE: Scratch(storage_shape(between, samples, self.layer.halo(between)), kept=True),
            _GRADIENT: Scratch(storage_shape(between, samples, NO_HALO)),
            **self.exchange.scratch(samples, leaves, threads, *inputs),
            **self.layer.scratch(samples, leaves, threads, between),
        }

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        self.exchange.forward(self.exchange_buffers(at), run)
        self.layer.forward(self.layer_buffers(at), run)

    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Compute the data gradient, start its messages, then write the gradients of the weights."""
        inside = self.layer_buffers(at)
        if at.dx:
            self.layer.backward_data(inside, run)
            at.finish_backward_data = self.exchange.begin_backward_data(self.exchange_buffers(at), run)
        for own in self._by_member(inside):
            self.layer.backward_weights(own, run)

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Wait for the messages and write dx."""
        assert at.finish_backward_data is not None
        at.finish_backward_data()
        at.finish_backward_data = None

    def exchange_buffers(self, at: Buffers) -> Buffers:
        """Return the buffers of the exchange alone."""
        value, gradient = self._between(at)
        return replace(at, y=(value,), dy=(gradient,))

    def layer_buffers(self, at: Buffers) -> Buffers:
        """Return the buffers of the layer behind the exchange."""
        value, gradient = self._between(at)
        dx = (gradient,) if at.dx else ()
        return replace(at, shapes=self.inner_shapes(*at.shapes), x=(value,), dx=dx, data_first=bool(at.dx))

    def _by_member(self, at: Buffers) -> Iterator[Buffers]:
        """Yield the layer's buffers for the samples of one rank after the other.

        Leaves of one rank are added first, and its leaves in other microbatches lie between them
        and those of the next rank. What the layer keeps has a sample in each index.
        """
        if self.members == 1:
            yield at
            return
        count = len(at.samples) // self.members
        for member in range(self.members):
            rows = slice(member * count, (member + 1) * count)
            kept = {
                name: array[rows]
                for name, array in at.scratch.items()
                if f"{_MEMBER} {name}" not in at.scratch and len(array) == len(at.samples)
            }
            own = {
                name.removeprefix(f"{_MEMBER} "): array
                for name, array in at.scratch.items()
                if name.startswith(_MEMBER)
            }
            partial = at.partial_sums[member : member + 1]
            yield replace(
                at,
                x=tuple(x[rows] for x in at.x),
                y=tuple(y[rows] for y in at.y),
                dx=(),
                dy=tuple(dy[rows] for dy in at.dy),
                gradients=partial[0].gradients if partial else {},
                scratch=kept | own,
                leaves=at.leaves // self.members,
                samples=at.samples[rows],
                data_first=False,
                partial_sums=partial,
            )

    def _between(self, at: Buffers) -> tuple[Array, Array]:
        """Return the views of the exchanged value and of its gradient."""
        (shape,) = self.inner_shapes(*at.shapes)
        value: Array = at.scratch[_VALUE].view("float32")
        gradient: Array = at.scratch[_GRADIENT].view("float32")
        return interior(value, shape, self.layer.halo(shape)), gradient
