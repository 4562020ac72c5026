"""The plan that a recipe means: written down, or chosen."""

import math

from engine.graph import Graph
from engine.hybrid import AUTO, Plan, is_able
from engine.planner.balance import extents, hybrid


def resolve(text: str, graph: Graph, *, ranks: int, batch: int) -> Plan:
    """Return the plan that a recipe means, for this graph, number of ranks and global minibatch.

    Raises
    ------
    UserError
        A plan that cannot be read, or does not fit.
    """
    if text == AUTO:
        return _least_bytes(graph, ranks, batch)
    plan = Plan.parse(text)
    plan.check(graph, ranks)
    return plan


def _least_bytes(graph: Graph, ranks: int, batch: int) -> Plan:
    """Split what the equations of `balance` say, with the one number of parts that is best in all."""
    best, least = Plan(), math.inf
    parts = 1
    while ranks % parts == 0:
        split, total = dict[str, int](), 0.0
        for node in graph:
            if not is_able(node.layer):
                continue
            layer = extents(node.layer, graph.input_shapes(node))
            if layer is None:
                continue
            alone, shared = (hybrid(layer, batch, ranks, groups) for groups in (ranks, ranks // parts))
            if shared < alone and is_able(node.layer, parts):
                split[node.name] = parts
            total += shared if node.name in split else alone
        if total < least:
            best, least = Plan(split), total
        parts *= 2
    return best
