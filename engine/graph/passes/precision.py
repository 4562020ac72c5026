"""Compute in bf16: what products read, and what is stored between layers, has values of bf16.

========================================  =========
value                                     held as
========================================  =========
weights that a product reads              bf16, rounded from fp32 each step
what a layer makes, for the next one      bf16, rounded when it is made
its gradient                              bf16, rounded when the layer reads it
the network's output (logits)             fp32, also before a Multiply or Flatten; its gradient bf16
sums of products, statistics of norms     fp32
weights, gradients of weights, moments    fp32, also on the wire
loss                                      fp32 and float64, as always
grouped and depthwise convolutions        products of fp32, values between layers as above
========================================  =========

Values are rounded where they are whole: after sums over ranks. So a plan changes no bit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

from engine.graph.graph import INPUT, Graph, Node
from layers.concat import Concat
from layers.conv2d import Conv2d
from layers.flatten import Flatten
from layers.fork import Fork
from layers.fused_conv2d import Conv2dReLU, Conv2dReLUPool
from layers.given import Given, changed_inside
from layers.kernels import bf16
from layers.kernels.rows import as_rows
from layers.layer import Array, Buffers, Context, Layer
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.multiply import Multiply
from layers.precision import BF16
from layers.products import Unit
from layers.relu import ReLU
from layers.wrapped import WatchedLayer, WrappedLayer

_SAME_VALUES = (Flatten, Fork)
_MOVES_VALUES = (Concat, MaxPool, ReLU)
"""What these make from values of bf16 has such values already; a subclass may compute something else."""
_SCALE_LOGITS = (Flatten, Multiply)
"""Behind these logits are what they were, or as many times it."""
_BEGIN_WITH_INSIDE = (Given, Conv2dReLU, Conv2dReLUPool)


def set_precision(graph: Graph, precision: str, unit: Unit = Unit.REGISTERS) -> Graph:
    """Return the graph whose products have a precision, whatever its layers say.

    Parameters
    ----------
    unit
        What makes products of bf16.
    """
    is_bf16 = precision == BF16
    unit = unit if is_bf16 else Unit.REGISTERS

    def of(layer: Layer, *, reads_input: bool) -> Layer:
        if isinstance(layer, Conv2d):
            return replace(layer, precision=precision, reads_input=is_bf16 and reads_input, unit=unit)
        return replace(layer, precision=precision, unit=unit) if isinstance(layer, Linear) else layer

    nodes = (
        replace(node, layer=changed_inside(node.layer, partial(of, reads_input=INPUT in node.inputs)))
        for node in graph
    )
    return Graph(graph.input_shape, tuple(nodes))


def store_rounded(
    graph: Graph, precision: str, keeps: type[Any], together: Iterable[Sequence[str]] = ()
) -> Graph:
    """Return the graph whose layers round what they make, and the gradients that they read.

    Parameters
    ----------
    keeps
        Layers that only hand values on, whatever they are.
    together
        Names of nodes that could be fused: what is between them is not rounded, as fused it is not stored.
    """
    if precision != BF16:
        return graph
    stored = rounded_nodes(graph, precision, keeps)
    runs = tuple(together)
    inside, ends = {name for run in runs for name in run[:-1]}, {run[-1] for run in runs}

    of_input = {INPUT}  # these hold any values

    def rounded(node: Node) -> Node:
        has_any = not of_input.isdisjoint(node.inputs)
        if isinstance(node.layer, keeps) or type(node.layer) in _SAME_VALUES:
            of_input.update(node.outputs if has_any else ())
            return node
        moves = type(node.layer) in _MOVES_VALUES and not has_any and node.name not in ends
        if moves or node.name in inside:
            return node
        rounds_y = node.name in stored and not _rounds_its_y(node.layer)
        layer = Rounded(node.layer, node.name, rounds_y=rounds_y)
        return replace(node, layer=layer, shards=node.shards)

    return Graph(graph.input_shape, tuple(map(rounded, graph)))


def rounded_nodes(graph: Graph, precision: str, *keeps: type[Any]) -> set[str]:
    """Return the names of the nodes whose values are stored rounded: all but those that make the logits."""
    node, stored = graph.nodes[-1], {each.name for each in graph} if precision == BF16 else set()
    while isinstance(node.layer, keeps) or type(node.layer) in _SCALE_LOGITS:
        stored.discard(node.name)
        (value,) = node.inputs
        maker = next((each for each in graph if value in each.outputs), None)
        if maker is None or maker.layer.outputs > 1 or len(graph.readers(value)) > 1:
            return stored  # it is the input, or others read it too
        node = maker
    return stored - {node.name}


def _rounds_its_y(layer: Layer) -> bool:
    """Say whether a layer is, or begins with, a convolution of bf16, which rounds what it makes by itself."""
    while isinstance(layer, WrappedLayer) and type(layer) in _BEGIN_WITH_INSIDE:
        layer = layer.inner
    return type(layer) is Conv2d and layer.precision == BF16


@final
@dataclass(frozen=True)
class Rounded(WatchedLayer):
    """A layer whose y and dy are rounded to bf16 in place."""

    rounds_y: bool

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y, and round it."""
        self.layer.forward(at, run)
        if self.rounds_y:
            _round(run, at.y)

    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Round dy, unless backward_data has, and write the gradients of the parameters."""
        if not at.data_first:
            _round(run, at.dy)
        self.layer.backward_weights(at, run)

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Round dy, unless backward_weights has, and write dx."""
        if at.data_first:
            _round(run, at.dy)
        self.layer.backward_data(at, run)


def _round(run: Context, values: tuple[Array, ...]) -> None:
    for value in values:
        rows: Array = as_rows(value)  # type: ignore[no-untyped-call]
        bf16.round_images(run.threads, rows, rows, 0, 0)
