"""From a network as it is written to the graph that a rank runs: all passes but the timing of layers."""

from comm.comm_thread import CommandQueue
from comm.grid import Grid
from engine.config.recipe import Recipe
from engine.graph import Graph
from engine.graph.parallel.partition import partition
from engine.graph.parallel.plan import Plan
from engine.graph.passes.convolution import set_convolutions
from engine.graph.passes.fork import insert_forks
from engine.graph.passes.fusion import fuse


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
