"""Rewrite a network into the graph that one rank runs: all passes, in their order."""

from collections.abc import Callable
from dataclasses import replace

from comm.comm_thread import CommandQueue
from comm.grid import Grid
from engine.graph import Graph, Node
from engine.graph.parallel.exchange import Exchange
from engine.graph.parallel.overlapped_exchange import overlap_exchanges
from engine.graph.parallel.partition import partition
from engine.graph.parallel.plan import Plan
from engine.graph.parallel.shared_norm import share_norms
from engine.graph.passes.accumulate import accumulate
from engine.graph.passes.convolution import set_convolutions
from engine.graph.passes.decay import exempt_from_decay
from engine.graph.passes.fork import insert_forks
from engine.graph.passes.freeze import freeze
from engine.graph.passes.fusion import fuse, together
from engine.graph.passes.joins import join_gradients
from engine.graph.passes.norm_groups import grouped
from engine.graph.passes.precision import rounded_nodes, set_precision, store_rounded
from engine.graph.passes.rates import set_rates
from engine.training.rank_settings import RankSettings
from layers.layer import Layer
from layers.precision import FP32

Wrap = Callable[[Node], Layer]
"""Returns a node's layer inside another one, such as a `TimedLayer`."""


def all_passes(
    network: Graph,
    settings: RankSettings,
    plan: Plan,
    grid: Grid,
    queue: CommandQueue,
    *,
    wrap: Wrap | None = None,
) -> Graph:
    """Return the graph of one rank.

    Wrapping comes before exchanges are overlapped, so that an exchange and the layer behind it are watched
    one by one; all earlier passes look for kinds of layers, which wrappers would hide, also those of layers
    that are not trained or have rates of their own.

    Parameters
    ----------
    plan
        Checked against network and ranks; `grid` has its number of parts.
    queue
        Runs the exchanges of the plan.
    """
    graph = set_precision(network, settings.precision, settings.unit)
    graph = set_convolutions(graph, settings.conv, settings.conv_feature_leaves)
    graph = grouped(graph, settings.norm_groups, settings.batch, grid.world.tree.leaves)
    apart = () if settings.fuse else together(graph)
    rounded = rounded_nodes(graph, settings.precision)
    graph = insert_forks(fuse(graph, rounded) if settings.fuse else graph, apart)
    graph = share_norms(partition(graph, plan, grid, queue), grid, queue)
    graph = store_rounded(graph, settings.precision, Exchange, apart)
    graph = join_gradients(graph) if settings.fuse and settings.precision == FP32 else graph
    graph = exempt_from_decay(set_rates(graph, settings.rate_factors), settings.decay_exempt)
    graph = accumulate(freeze(graph, settings.freeze), settings.accumulate)
    if wrap is not None:
        nodes = tuple(replace(node, layer=wrap(node)) for node in graph)
        graph = Graph(graph.input_shape, nodes)
    return overlap_exchanges(graph, members=1 if settings.accumulate == 1 else plan.parts)
