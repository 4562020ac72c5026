"""A network: named layers in topological order, with the shape of every value."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from layers.layer import Layer, Shape

INPUT = "input"
"""Name of the value that the data set provides."""


class Sharding(Enum):
    """How the M ranks of a model group hold a value of the group's samples."""

    BATCH = "batch"
    """The rank's own samples, 1/M of the group's, with all features."""
    FEATURE = "feature"
    """All samples of the group, a part of the features."""
    WHOLE = "whole"
    """All samples of the group with all features, on every rank."""


@dataclass(frozen=True)
class Node:
    """One layer, its name, and the names of the values it reads."""

    name: str
    layer: Layer
    inputs: tuple[str, ...]
    held: Sharding = Sharding.BATCH
    """Sharding of its outputs."""
    first: int = 0
    """Index in the whole value of the first feature that this rank holds."""
    shards: tuple[Layer, ...] = ()
    """Layers of all parts if a plan splits the node; `layer` is then this rank's part."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of its output values: its own name, or one for each reader of a Fork."""
        count = self.layer.outputs
        return (self.name,) if count == 1 else tuple(f"{self.name}:{index}" for index in range(count))


@dataclass(frozen=True)
class Graph:
    """A directed acyclic graph with one input and one output.

    Raises
    ------
    ValueError
        A name used twice, a value read before it is made or never read, or shapes that do not fit;
        the message names the node.
    """

    input_shape: Shape
    nodes: tuple[Node, ...]
    shapes: dict[str, Shape] = field(init=False, compare=False)
    """Logical shape of one sample of each value."""

    def __post_init__(self) -> None:
        shapes = {INPUT: self.input_shape}
        for node in self.nodes:
            for value in node.inputs:
                if value not in shapes:
                    raise ValueError(f"{node.name}: reads {value!r}, which no earlier node makes")
            if any(value in shapes for value in node.outputs):
                raise ValueError(f"{node.name}: the name is used twice")
            try:
                shape = node.layer.output_shape(*(shapes[value] for value in node.inputs))
            except ValueError as error:
                raise ValueError(f"{node.name}: {error}") from error
            shapes.update(dict.fromkeys(node.outputs, shape))
        object.__setattr__(self, "shapes", shapes)
        unread = [value for value in shapes if not self.readers(value)]
        if len(unread) != 1 or unread[0] == INPUT:
            raise ValueError(f"a graph has one output; nothing reads {', '.join(unread)}")

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def output(self) -> str:
        """Name of the value that the loss reads."""
        return self.nodes[-1].name

    @property
    def output_shape(self) -> Shape:
        """Logical shape of one sample of the output."""
        return self.shapes[self.output]

    def readers(self, value: str) -> list[Node]:
        """Return the nodes that read a value; a node that reads it twice is there twice."""
        return [node for node in self.nodes for read in node.inputs if read == value]

    def input_shapes(self, node: Node) -> tuple[Shape, ...]:
        """Return the logical shapes of a node's inputs."""
        return tuple(self.shapes[value] for value in node.inputs)

    def parameter_count(self) -> int:
        """Return the number of trainable values, padding not counted."""
        count = 0
        for node in self.nodes:
            for parameter in node.layer.parameters(*self.input_shapes(node)).values():
                size = 1
                for extent in parameter.shape:
                    size *= extent
                count += size
        return count


class GraphBuilder:
    """Build a graph line by line; a layer reads the one above it unless told otherwise."""

    def __init__(self, input_shape: Sequence[int]):
        self._input_shape, self._nodes, self._last = tuple(input_shape), list[Node](), INPUT

    def add(self, name: str, layer: Layer, *inputs: str) -> str:
        """Append a node and return the name of its value."""
        self._nodes.append(Node(name, layer, inputs or (self._last,)))
        self._last = name
        return name

    def graph(self) -> Graph:
        """Return the network, checked."""
        return Graph(self._input_shape, tuple(self._nodes))
