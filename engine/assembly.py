"""From a network as it is written to the graph that a rank runs: all passes but the timing of layers."""

from comm.comm_thread import CommandQueue
from comm.grid import Grid
from engine.graph import Graph
from engine.hybrid import Plan
from engine.passes.convolution import set_convolutions
from engine.passes.fork import insert_forks
from engine.passes.fusion import fuse
from engine.passes.partition import partition
from engine.recipe import Recipe


def assemble(graph: Graph, recipe: Recipe, plan: Plan, grid: Grid, queue: CommandQueue) -> Graph:
    """Return the graph of one rank.

    Parameters
    ----------
    plan
        Checked against graph and ranks; `grid` has its number of parts.
    queue
        Runs the exchanges of the plan.
    """
    graph = set_convolutions(graph, recipe.conv, recipe.conv_feature_leaves)
    graph = insert_forks(fuse(graph) if recipe.fuse else graph)
    return partition(graph, plan, grid, queue)
