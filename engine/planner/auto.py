"""Resolve a recipe's plan: parse it, or choose one."""

from engine.graph import Graph
from engine.graph.parallel.plan import AUTO, Plan
from engine.graph.passes.fusion import fuse
from engine.planner.cluster import read_cluster
from engine.planner.costs import Costs
from engine.planner.plans import USUAL, Training, default_threads, ranked

DEFAULT_CLUSTER = "aws_c4_8xlarge"
"""The shipped cluster with the slowest network for its cores: there a plan matters most."""


def resolve(
    text: str, graph: Graph, *, ranks: int, batch: int, cluster: str = "", training: Training = USUAL
) -> Plan:
    """Return the plan that a recipe means, for this graph, number of ranks and global minibatch.

    "auto" is the plan with the shortest step on a cluster by the equations alone, which takes milliseconds;
    `engine.planner.search` simulates the best of them. All ranks find the same.

    Parameters
    ----------
    cluster
        For "auto": the name of a shipped cluster, or a file; empty: `DEFAULT_CLUSTER`.
    training
        For "auto": what is frozen, accumulated and updated.

    Raises
    ------
    UserError
        A plan or cluster that cannot be read, or a plan that does not fit.
    """
    if text == AUTO:
        described = read_cluster(cluster or DEFAULT_CLUSTER)
        costs = Costs(described, threads=default_threads(described, ranks))
        return ranked(fuse(graph), ranks, batch, costs, training)[0]
    plan = Plan.parse(text)
    plan.check(graph, ranks)
    return plan
