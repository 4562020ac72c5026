"""A plan: which nodes are split over how many ranks (hybrid parallelism)."""

from dataclasses import dataclass, field

from comm.grid import check_parts
from engine.config.errors import UserError
from engine.graph import Graph, Node

DATA, AUTO = "data", "auto"
"""The plan that splits nothing; and the one that `engine.planner.auto` chooses."""

_FORM = 'must be "data", "auto", or nodes with their parts such as "fc6=2,fc7=2"'


@dataclass(frozen=True)
class Plan:
    """Number of parts M by the name of each split node: the same for all, as the ranks form groups of M."""

    split: dict[str, int] = field(default_factory=dict)
    whole: tuple[str, ...] = field(default=(), compare=False)
    """Nodes named with 1 part: they are checked, but not split."""

    @property
    def parts(self) -> int:
        """Ranks of a group: M, 1 where nothing is split."""
        return max(self.split.values(), default=1)

    def __str__(self) -> str:
        return ",".join(f"{name}={parts}" for name, parts in self.split.items()) or DATA

    @classmethod
    def parse(cls, text: str) -> "Plan":
        """Parse a recipe's plan: "data", or ``node=parts`` with commas in between; 1 part splits nothing.

        Raises
        ------
        UserError
            Another form, a node named twice, or nodes with different numbers of parts.
        """
        if text == DATA:
            return cls()
        split: dict[str, int] = {}
        for entry in text.split(","):
            name, equals, parts = (side.strip() for side in entry.partition("="))
            if not (name and equals and parts.isdecimal() and int(parts) > 0):
                raise UserError(f'plan: got "{text}", in it "{entry.strip()}"; {_FORM}')
            if name in split:
                raise UserError(f'plan: got "{text}", which names {name} twice; must name each node once')
            split[name] = int(parts)
        whole = tuple(name for name, parts in split.items() if parts == 1)
        split = {name: parts for name, parts in split.items() if parts > 1}
        if len(set(split.values())) > 1:
            raise UserError(
                f'plan: got "{text}"; all split nodes must have the same number of parts, as the ranks form '
                "groups of that size"
            )
        return cls(split, whole)

    def check(self, graph: Graph, ranks: int) -> None:
        """Raise UserError where the plan does not fit the graph or the number of ranks."""
        nodes = {node.name: node for node in graph}
        for name in (*self.split, *self.whole):
            if name not in nodes:
                able = [node.name for node in graph if is_able(graph, node)]
                raise UserError(f"plan: no node {name}; this model can split {', '.join(able) or 'none'}")
        for name, parts in self.split.items():
            try:
                check_parts(ranks, parts)
                _check_able(graph, nodes[name], parts)
            except ValueError as error:
                raise UserError(f"plan: {name}={parts}: {error}") from error


def is_able(graph: Graph, node: Node, parts: int = 2) -> bool:
    """Return whether a plan can split a node into some number of parts."""
    try:
        _check_able(graph, node, parts)
    except ValueError:
        return False
    return True


def _check_able(graph: Graph, node: Node, parts: int) -> None:
    node.layer.shard(parts)
    if node.layer.state(*graph.input_shapes(node)):
        raise ValueError("its layer has state, which cannot be split")
