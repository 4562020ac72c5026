"""A plan: which nodes are split over how many ranks (hybrid parallelism)."""

import math
from dataclasses import dataclass, field

from comm.grid import check_parts
from engine.balance import exchanged
from engine.errors import UserError
from engine.graph import Graph
from layers.layer import Layer

DATA, AUTO = "data", "auto"
"""The plan that splits nothing; and the one that exchanges the fewest bytes."""

_FORM = 'must be "data", "auto", or nodes with their parts such as "fc6=2,fc7=2"'


@dataclass(frozen=True)
class Plan:
    """Number of parts M by the name of each split node: the same for all, as the ranks form groups of M."""

    split: dict[str, int] = field(default_factory=dict)

    @property
    def parts(self) -> int:
        """Ranks of a group: M, 1 where nothing is split."""
        return max(self.split.values(), default=1)

    def __str__(self) -> str:
        return ",".join(f"{name}={parts}" for name, parts in self.split.items()) or DATA

    @classmethod
    def resolve(cls, text: str, graph: Graph, *, ranks: int, batch: int) -> "Plan":
        """Return the plan that a recipe means, for this graph, number of ranks and global minibatch.

        Raises
        ------
        UserError
            A plan that cannot be read, or does not fit.
        """
        if text == AUTO:
            return _least_bytes(graph, ranks, batch)
        plan = cls.parse(text)
        plan.check(graph, ranks)
        return plan

    @classmethod
    def parse(cls, text: str) -> "Plan":
        """Read what a recipe says: "data", or ``node=parts`` with commas in between; 1 part splits nothing.

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
        split = {name: parts for name, parts in split.items() if parts > 1}
        if len(set(split.values())) > 1:
            raise UserError(
                f'plan: got "{text}"; all split nodes must have the same number of parts, as the ranks form '
                "groups of that size"
            )
        return cls(split)

    def check(self, graph: Graph, ranks: int) -> None:
        """Raise UserError where the plan does not fit the graph or the number of ranks."""
        layers = {node.name: node.layer for node in graph}
        able = [name for name, layer in layers.items() if _is_able(layer)]
        for name, parts in self.split.items():
            if name not in layers:
                raise UserError(f"plan: no node {name}; this model can split {', '.join(able) or 'none'}")
            try:
                check_parts(ranks, parts)
                layers[name].shard(parts)
            except ValueError as error:
                raise UserError(f"plan: {name}={parts}: {error}") from error


def _least_bytes(graph: Graph, ranks: int, batch: int) -> Plan:
    """Split what the equations of `engine.balance` say, with the one number of parts that is best in all."""
    best, least = Plan(), math.inf
    parts = 1
    while ranks % parts == 0:
        split, total = dict[str, int](), 0.0
        for node in graph:
            if not _is_able(node.layer):
                continue
            ((inputs,), (outputs,)) = graph.input_shapes(node)[0], graph.shapes[node.name]
            alone = exchanged(inputs, outputs, batch, ranks, ranks)
            shared = exchanged(inputs, outputs, batch, ranks, ranks // parts)
            if shared < alone and _is_able(node.layer, parts):
                split[node.name] = parts
            total += shared if node.name in split else alone
        if total < least:
            best, least = Plan(split), total
        parts *= 2
    return best


def _is_able(layer: Layer, parts: int = 2) -> bool:
    try:
        layer.shard(parts)
    except ValueError:
        return False
    return True
