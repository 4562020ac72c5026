"""Insert Forks, so that every value has one reader; backward, a Fork adds its readers' gradients."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from engine.graph import Graph, Node
from layers.fork import Fork


def insert_forks(graph: Graph, together: Iterable[Sequence[str]] = ()) -> Graph:
    """Return the graph with a Fork behind each value that is read more than once.

    Its readers, whose gradients are added in this order, come in the order of the network.

    Parameters
    ----------
    together
        Names of nodes that could be fused: each counts as the last of them, whose place the fused one takes.
        So gradients are added in the same order.
    """
    place = {node.name: number for number, node in enumerate(graph)}
    for run in together:
        place |= dict.fromkeys(run, place[run[-1]])
    nodes: list[Node] = []
    renamed: dict[tuple[str, str], list[str]] = {}  # value, reader -> names that are not taken yet

    def fork(value: str) -> None:
        readers = sorted(graph.readers(value), key=lambda reader: place[reader.name])
        if len(readers) > 1:
            node = Node(f"fork {value}", Fork(len(readers)), (value,))
            nodes.append(node)
            for reader, name in zip(readers, node.outputs, strict=True):
                renamed.setdefault((value, reader.name), []).append(name)

    def taken(value: str, reader: Node) -> str:
        names = renamed.get((value, reader.name))
        return names.pop(0) if names else value

    fork("input")
    for node in graph:
        inputs = tuple(taken(value, node) for value in node.inputs)
        nodes.append(replace(node, inputs=inputs))
        for value in node.outputs:
            fork(value)
    return Graph(graph.input_shape, tuple(nodes))
