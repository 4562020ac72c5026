"""Give nodes learning rates of their own: factors of the schedule's rate, by patterns of names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import final

from engine.config.errors import UserError
from engine.graph.graph import Graph
from engine.graph.passes.patterns import check_patterns, first_matching
from layers.layer import Parameter, Shape
from layers.wrapped import WatchedLayer


def set_rates(graph: Graph, factors: Iterable[tuple[str, float]]) -> Graph:
    """Return the graph whose nodes have the factor of the first pattern that fits; 1 where none does."""
    by_pattern = dict(factors)
    fitting = first_matching(graph, by_pattern)
    nodes = (
        replace(node, layer=OwnRate(node.layer, node.name, by_pattern[fitting[node.name]]))
        if node.name in fitting
        else node
        for node in graph
    )
    return Graph(graph.input_shape, tuple(nodes))


def check_rates(graph: Graph, factors: Mapping[str, float]) -> None:
    """Raise UserError for the first pattern that counts for no layer of a network."""
    check_patterns(graph, factors, "schedule.rates")
    used = set(first_matching(graph, factors).values())
    for pattern in factors:
        if pattern not in used:
            raise UserError(
                f'schedule.rates: got "{pattern}" behind patterns that fit the same layers, and the first '
                "counts; must stand before them"
            )


@final
@dataclass(frozen=True)
class OwnRate(WatchedLayer):
    """A layer whose learning rate is multiplied by a factor."""

    factor: float

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """Return the parameters with the factor of their rate; one that is not trained stays so."""
        its = self.layer.parameters(*inputs)
        return {
            name: replace(parameter, rate_factor=self.factor * parameter.rate_factor)
            for name, parameter in its.items()
        }
