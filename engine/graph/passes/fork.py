"""Insert Forks, so that every value has one reader; backward, a Fork adds its readers' gradients."""

from dataclasses import replace

from engine.graph import Graph, Node
from layers.fork import Fork


def insert_forks(graph: Graph) -> Graph:
    """Return the graph with a Fork behind each value that is read more than once."""
    nodes: list[Node] = []
    renamed: dict[str, list[str]] = {}  # value -> names for its readers that are not taken yet

    def fork(value: str) -> None:
        readers = len(graph.readers(value))
        if readers > 1:
            node = Node(f"fork {value}", Fork(readers), (value,))
            nodes.append(node)
            renamed[value] = list(node.outputs)

    fork("input")
    for node in graph:
        inputs = tuple(renamed[value].pop(0) if value in renamed else value for value in node.inputs)
        nodes.append(replace(node, inputs=inputs))
        for value in node.outputs:
            fork(value)
    return Graph(graph.input_shape, tuple(nodes))
