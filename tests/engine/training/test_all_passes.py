"""From a network to the graph of one rank: what each pass leaves to the next."""

from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.grid import Grid
from comm.threads import run_ranks
from comm.tree import Tree
from engine.graph import Graph
from engine.graph.parallel.exchange import Exchange
from engine.graph.parallel.overlapped_exchange import OverlappedExchange
from engine.graph.parallel.plan import Plan
from engine.training.all_passes import all_passes
from engine.training.rank_settings import RankSettings
from layers.conv2d import Conv2d
from layers.fork import Fork
from layers.fused_conv2d import Conv2dReLU, Conv2dReLUPool
from tests.engine.graphs import convolutional

BATCH = 16


def made(ranks: int = 1, plan: str = "data", *, wrap=None, **settings) -> Graph:
    """Return the graph of rank 0."""

    def rank(world):
        planned = Plan.parse(plan)
        grid = Grid.of(Collectives(world, Tree.of(ranks, 8)), planned.parts)
        chosen = RankSettings(BATCH, 1, **settings)
        return all_passes(convolutional(), chosen, planned, grid, InlineCommThread(), wrap=wrap)

    return run_ranks(ranks, rank)[0]


def convolution(graph: Graph, name: str) -> Conv2d:
    (layer,) = (node.layer for node in graph if node.name == name)
    return layer.conv if isinstance(layer, Conv2dReLU | Conv2dReLUPool) else layer


def test_convolutions_get_the_settings_before_they_are_fused():
    graph = made(conv="direct", conv_feature_leaves=4)
    assert isinstance(graph.nodes[0].layer, Conv2dReLU)
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5"):
        layer = convolution(graph, name)
        assert (layer.algorithm, layer.feature_leaves) == ("direct", 4)


def test_forks_are_for_the_readers_that_fusion_leaves():
    fused, plain = made(), made(fuse=False)
    assert [node.name for node in fused if isinstance(node.layer, Fork)] == ["fork conv2"]
    assert [node.name for node in plain if isinstance(node.layer, Fork)] == ["fork pool2"]
    assert len(plain) > len(fused)


def test_wrapping_sees_every_layer_and_every_exchange_by_itself():
    wrapped = list[str]()

    def wrap(node):
        wrapped.append(node.name)
        return node.layer

    graph = made(2, "fc6=2", wrap=wrap)
    assert {"exchange fc6", "fc6", "exchange fc7", "conv1"} <= set(wrapped)
    assert len(wrapped) == 2 * len(set(wrapped)), "once on each rank"
    assert {node.name for node in graph} < set(wrapped), "what is overlapped later is no node any more"


def test_an_exchange_and_its_reader_with_weights_become_one_node():
    graph = made(2, "fc6=2")
    layers = {node.name: node.layer for node in graph}
    assert isinstance(layers["fc6"], OverlappedExchange)
    assert not any(isinstance(layer, Exchange) for layer in layers.values())
