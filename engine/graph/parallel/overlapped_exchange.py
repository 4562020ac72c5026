"""Exchanges beside compute: what brings a layer's input goes back beside the gradient of its weights."""

from dataclasses import dataclass, field, replace
from typing import final

from engine.graph import Graph, Node
from engine.graph.parallel.exchange import Exchange
from engine.graph.passes.wrapped import unwrapped
from layers.layer import NO_HALO, Array, Buffers, Context, Finish, Halo, Layer, Parameter, Scratch, Shape
from layers.layout import interior, storage_shape

_VALUE, _GRADIENT = "exchanged", "exchanged_gradient"


def hide_exchanges(graph: Graph) -> Graph:
    """Put each exchange and the layer that reads it into one node, where that has weights; after wraps."""
    exchanges = {node.name: node for node in graph if isinstance(unwrapped(node.layer), Exchange)}
    hidden: dict[str, Node] = {}
    nodes: list[Node] = []
    for node in graph:
        before = exchanges.get(node.inputs[0])
        if before is None or not node.layer.parameters(*graph.input_shapes(node)):
            nodes.append(node)
        else:
            hidden[before.name] = before
            nodes.append(_merged(before, node))
    return Graph(graph.input_shape, tuple(node for node in nodes if node.name not in hidden))


def _merged(before: Node, node: Node) -> Node:
    def behind(layer: Layer) -> "BehindExchange":
        return BehindExchange(before.layer, layer)

    return replace(
        node, inputs=before.inputs, layer=behind(node.layer), shards=tuple(map(behind, node.shards))
    )


@final
@dataclass(frozen=True)
class BehindExchange(Layer):
    """A layer and the exchange that brings its input.

    `backward_weights` computes the gradient of the input first, so that its exchange goes beside the gradient
    of the weights; `backward_data` only waits for it. Nobody else runs between the two, which is why the
    exchange may keep its pieces in scratch that nodes share.
    """

    exchange: Layer
    layer: Layer
    reads_y: bool = field(init=False)
    _begun: list[Finish] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reads_y", self.layer.reads_y)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the layer's."""
        return self.layer.output_shape(self.exchange.output_shape(*inputs))

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """Return the layer's."""
        return self.layer.parameters(self.exchange.output_shape(*inputs))

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return what both want, and the value between them with its gradient."""
        between = self.exchange.output_shape(*inputs)
        return {
            _VALUE: Scratch(storage_shape(between, samples, self.layer.halo(between)), kept=True),
            _GRADIENT: Scratch(storage_shape(between, samples, NO_HALO)),
            **self.exchange.scratch(samples, leaves, threads, *inputs),
            **self.layer.scratch(samples, leaves, threads, between),
        }

    def gradient_halo(self, *inputs: Shape) -> Halo:
        """Return the layer's."""
        return self.layer.gradient_halo(self.exchange.output_shape(*inputs))

    def flops(self, *inputs: Shape) -> int:
        """Return the layer's."""
        return self.layer.flops(self.exchange.output_shape(*inputs))

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        self.exchange.forward(self.before(at), run)
        self.layer.forward(self._behind(at), run)

    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Write the gradients, and start what `backward_data` waits for."""
        behind = self._behind(at)
        if at.dx:
            self.layer.backward_data_first(behind, run)
            self._begun.append(self.exchange.begin_backward_data(self.before(at), run))
        self.layer.backward_weights(behind, run)

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        self._begun.pop()()

    def before(self, at: Buffers) -> Buffers:
        """Return what the exchange reads and writes."""
        value, gradient = self._between(at)
        return replace(at, y=(value,), dy=(gradient,))

    def _behind(self, at: Buffers) -> Buffers:
        """Return what the layer reads and writes."""
        value, gradient = self._between(at)
        shapes = (self._shape(at),)
        return replace(at, shapes=shapes, x=(value,), dx=(gradient,) if at.dx else ())

    def _between(self, at: Buffers) -> tuple[Array, Array]:
        shape = self._shape(at)
        value: Array = at.scratch[_VALUE].view("float32")
        gradient: Array = at.scratch[_GRADIENT].view("float32")
        return interior(value, shape, self.layer.halo(shape)), gradient

    def _shape(self, at: Buffers) -> Shape:
        return self.exchange.output_shape(*at.shapes)
