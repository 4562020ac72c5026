"""Exempt parameters from weight decay, by patterns of their names: "*.bias"."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import final

from engine.config.errors import UserError
from engine.config.wording import one_of
from engine.graph.graph import Graph, Node
from layers.layer import Parameter, Shape
from layers.wrapped import WatchedLayer


def exempt_from_decay(graph: Graph, patterns: Iterable[str]) -> Graph:
    """Return the graph in which the parameters do not decay that a pattern fits, as "node.parameter"."""
    listed = tuple(patterns)

    def exempt(node: Node) -> Node:
        names = node.layer.parameters(*graph.input_shapes(node))
        if not any(_fits(f"{node.name}.{name}", listed) for name in names):
            return node
        return replace(node, layer=DecayExempt(node.layer, node.name, listed))

    return Graph(graph.input_shape, tuple(map(exempt, graph)))


def check_exempt(graph: Graph, patterns: Iterable[str]) -> None:
    """Raise UserError for the first pattern that fits no parameter of a network."""
    names = list(_names(graph))
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(
                f'optimizer.decay_exempt: got "{pattern}", which fits no weights; {one_of(names)}, or *.bias'
            )


def _names(graph: Graph) -> Iterator[str]:
    for node in graph:
        for name in node.layer.parameters(*graph.input_shapes(node)):
            yield f"{node.name}.{name}"


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@final
@dataclass(frozen=True)
class DecayExempt(WatchedLayer):
    """A layer some of whose parameters do not decay."""

    patterns: tuple[str, ...]

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """Return the parameters, those that a pattern fits with no decay."""
        return {
            name: replace(its, decay_factor=0.0) if _fits(f"{self.node}.{name}", self.patterns) else its
            for name, its in self.layer.parameters(*inputs).items()
        }
