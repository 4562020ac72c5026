"""Patterns of users that name nodes: "conv*"."""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from engine.config.errors import UserError
from engine.config.wording import one_of
from engine.graph.graph import Graph, Node


def nodes_to_name(graph: Graph) -> Iterator[Node]:
    """Yield the nodes that a pattern can name: those with parameters or state."""
    for node in graph:
        inputs = graph.input_shapes(node)
        if node.layer.parameters(*inputs) or node.layer.state(*inputs):
            yield node


def first_matching(graph: Graph, patterns: Iterable[str]) -> dict[str, str]:
    """Return the first pattern that fits, for each node that has one, by its name.

    ``*`` stands for any text, ``?`` for a character, ``[ab]`` for one of several; case matters.
    """
    listed = tuple(patterns)
    fitting = {
        node.name: next((each for each in listed if fnmatchcase(node.name, each)), None)
        for node in nodes_to_name(graph)
    }
    return {name: pattern for name, pattern in fitting.items() if pattern is not None}


def check_patterns(graph: Graph, patterns: Iterable[str], what: str) -> None:
    """Raise UserError for the first pattern that fits no node of a network.

    Parameters
    ----------
    what
        The field that holds the patterns: "freeze".
    """
    names = [node.name for node in nodes_to_name(graph)]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(f'{what}: got "{pattern}", which fits no layer with weights; {one_of(names)}')
