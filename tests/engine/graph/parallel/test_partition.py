"""What the pass writes: shards, exchanges where what is held changes, and nothing else."""

import numpy as np
import pytest

from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.grid import Grid
from comm.threads import run_ranks
from comm.tree import Tree
from engine.graph import Graph, GraphBuilder, Sharding
from engine.graph.parallel.exchange import Exchange, GatherFeatures, GatherSamples, SwapFeatures
from engine.graph.parallel.partition import partition
from engine.graph.parallel.plan import Plan
from engine.graph.passes.fork import insert_forks
from engine.graph.passes.fusion import fuse
from engine.training.layer_states import LayerStates
from engine.training.memory import Memory
from engine.training.rank_parameters import RankParameters
from layers.conv2d import Conv2d
from layers.dropout import Dropout
from layers.flatten import Flatten
from layers.fused_conv2d import Conv2dReLUPool
from layers.kernels.rows import as_channels
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads
from layers.layer import Array, Context
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.relu import ReLU
from tests.engine.graphs import wide
from tests.engine.training.test_memory import beside_rows
from tests.toy_layer import Scale

BATCH, LEAVES = 16, 8


def chain() -> Graph:
    net = GraphBuilder((12,))
    net.add("fc1", Linear(40))
    net.add("relu1", ReLU())
    net.add("fc2", Linear(250))
    net.add("relu2", ReLU())
    net.add("drop2", Dropout(0.5))
    net.add("fc3", Linear(200))
    net.add("fc4", Linear(10))
    return net.graph()


def images() -> Graph:
    """Convolutions that 4 ranks may share, on odd maps, between others that they cannot."""
    net = GraphBuilder((3, 7, 5))
    net.add("conv1", Conv2d(LANES + 4, 3, padding=1))
    net.add("relu1", ReLU())
    net.add("conv2", Conv2d(4 * LANES, 3, padding=1, feature_leaves=4))
    net.add("relu2", ReLU())
    net.add("pool2", MaxPool(2, 2))
    net.add("conv3", Conv2d(12 * LANES, 3, padding=1, feature_leaves=4))
    net.add("drop3", Dropout(0.5))
    net.add("conv4", Conv2d(6, 3, padding=1))
    net.add("flatten", Flatten())
    net.add("fc5", Linear(128))
    return net.graph()


def on_ranks(ranks, graph, plan, work):
    """Return `work(model, grid)` of all ranks; a model is the parameters of the graph with its forks."""

    def rank(world):
        plan_, queue = Plan.parse(plan), InlineCommThread()
        grid = Grid.of(Collectives(world, Tree.of(ranks, LEAVES)), plan_.parts)
        return work(RankParameters(partition(insert_forks(graph), plan_, grid, queue), grid, queue), grid)

    return run_ranks(ranks, rank)


def test_a_plan_that_splits_nothing_changes_nothing():
    (made,) = on_ranks(1, chain(), "data", lambda model, _: model.graph)
    assert made == chain()


def test_exchanges_stand_where_what_is_held_changes():
    made, *_ = on_ranks(2, chain(), "fc2=2,fc3=2", lambda model, _: model.graph)
    assert [(node.name, node.held) for node in made] == [
        ("fc1", Sharding.BATCH),
        ("relu1", Sharding.BATCH),
        ("exchange fc2", Sharding.WHOLE),
        ("fc2", Sharding.FEATURE),
        ("relu2", Sharding.FEATURE),
        ("drop2", Sharding.FEATURE),
        ("exchange fc3", Sharding.WHOLE),
        ("fc3", Sharding.FEATURE),
        ("exchange fc4", Sharding.BATCH),
        ("fc4", Sharding.BATCH),
    ]
    kinds = {node.name: type(node.layer) for node in made if isinstance(node.layer, Exchange)}
    assert kinds == {
        "exchange fc2": GatherSamples,
        "exchange fc3": GatherFeatures,
        "exchange fc4": SwapFeatures,
    }


def test_pooling_and_dropout_go_with_a_part_of_the_channels_and_flatten_does_not():
    made, *_ = on_ranks(2, images(), "conv2=2,conv3=2", lambda model, _: model.graph)
    assert [(node.name, node.held) for node in made] == [
        ("conv1", Sharding.BATCH),
        ("relu1", Sharding.BATCH),
        ("exchange conv2", Sharding.WHOLE),
        ("conv2", Sharding.FEATURE),
        ("relu2", Sharding.FEATURE),
        ("pool2", Sharding.FEATURE),
        ("exchange conv3", Sharding.WHOLE),
        ("conv3", Sharding.FEATURE),
        ("drop3", Sharding.FEATURE),
        ("exchange conv4", Sharding.BATCH),
        ("conv4", Sharding.BATCH),
        ("flatten", Sharding.BATCH),
        ("fc5", Sharding.BATCH),
    ]
    flat, *_ = on_ranks(2, images(), "conv3=2,fc5=2", lambda model, _: model.graph)
    assert flat.shapes["exchange conv4"] == images().shapes["drop3"]


def test_fused_convolutions_are_split_as_plain_ones():
    made, *_ = on_ranks(2, fuse(images()), "conv2=2,conv3=2", lambda model, _: model.graph)
    layers = {node.name: node.layer for node in made}
    assert isinstance(layers["conv2"], Conv2dReLUPool)
    assert layers["conv2"].conv.out_channels == 2 * LANES
    assert isinstance(layers["exchange conv3"], GatherFeatures)
    assert made.shapes["exchange conv3"] == images().shapes["pool2"]


def test_the_loss_gets_the_own_samples():
    net = GraphBuilder((12,))
    net.add("fc1", Linear(128))
    made, *_ = on_ranks(2, net.graph(), "fc1=2", lambda model, _: model.graph)
    assert [node.name for node in made] == ["exchange fc1", "fc1", "exchange loss"]
    assert made.output_shape == (128,)


def test_every_reader_of_a_value_has_an_exchange_of_its_own_and_a_sum_of_parts_needs_none():
    made, *_ = on_ranks(2, wide(), "fc2=2,fc3=2", lambda model, _: model.graph)
    names = [node.name for node in made]
    assert {"exchange fc2", "exchange fc3", "exchange fc4"} < set(names)
    assert [node.held for node in made if node.name in ("add3", "sigmoid3")] == [Sharding.FEATURE] * 2
    mixed_up, *_ = on_ranks(2, wide(), "fc2=2", lambda model, _: model.graph)
    (add,) = (node for node in mixed_up if node.name == "add3")
    assert add.inputs == ("exchange add3:0", "fc3")
    assert add.held is Sharding.BATCH


def test_parts_share_the_features_and_know_where_theirs_begin():
    parts = on_ranks(2, chain(), "fc2=2", lambda model, _: {node.name: node for node in model.graph})
    widths = [part["fc2"].layer.out_features for part in parts]
    assert sum(widths) == 250
    assert [part["drop2"].first for part in parts] == [0, widths[0]]
    assert [part["fc1"].first for part in parts] == [0, 0]


def test_a_rank_holds_its_share_of_a_split_nodes_parameters():
    def floats(model, _):
        return sum(array.size for array in model["fc2"].weights.values())

    (whole,) = on_ranks(1, chain(), "data", floats)
    assert on_ranks(8, chain(), "fc2=8", floats) == [pytest.approx(whole / 8, rel=0.1)] * 8


@pytest.mark.parametrize("parts", [2, 4])
def test_a_rank_holds_its_share_of_a_split_convolution(parts):
    def held(model, _):
        weights, buckets = model["conv3"].weights, model.arrays()
        return sum(array.size for array in weights.values()), sum(array.nbytes for array in buckets)

    ((whole, whole_buckets),) = on_ranks(1, images(), "data", held)
    for floats, buckets in on_ranks(parts, images(), f"conv3={parts}", held):
        assert floats == whole // parts
        assert buckets < whole_buckets - 4 * whole * (1 - 1 / parts)  # gradients, and velocities besides


def without_padding(value: Array, features: int) -> Array:
    """Clear what stands behind the last feature of a value."""
    image, (block, lane) = as_channels(value), divmod(features, LANES)
    if lane:
        image[:, block, :, :, lane:] = 0
    image[:, block + (lane > 0) :] = 0
    return value


@pytest.mark.parametrize("ranks", [2, 4, 6])
@pytest.mark.parametrize(
    ("make", "plan", "name"),
    [
        *((chain, "fc2=2,fc3=2", f"exchange {node}") for node in ("fc2", "fc3", "fc4")),
        *((images, "conv2=2,conv3=2", f"exchange {node}") for node in ("conv2", "conv3", "conv4")),
        (images, "conv3=2,fc5=2", "exchange fc5"),
    ],
)
def test_the_backward_of_an_exchange_is_its_adjoint(ranks, make, plan, name):
    """Over all ranks, <forward(x), dy> = <x, backward(dy)>; whole numbers, so that nothing is rounded."""

    def products(model, grid):
        states = LayerStates(model.graph, grid.world, InlineCommThread())
        memory, run = Memory(model, states, BATCH, grid, 1), Context(Threads(1))
        (node,) = (node for node in model.graph if node.name == name)
        at, rng = memory[name], np.random.default_rng(grid.world.communicator.rank)
        used = tuple(model.graph.shapes[value][0] for value in (node.inputs[0], name))
        x, dy = (
            without_padding(rng.integers(-9, 9, value.shape).astype(np.float32), features)
            for value, features in zip((at.x[0], at.dy[0]), used, strict=True)
        )
        at.x[0][...] = x
        node.layer.forward(at, run)
        forward = np.vdot(at.y[0], dy)
        at.dy[0][...] = dy
        node.layer.backward_data(at, run)
        for value in (at.y[0], at.dx[0]):
            assert value.ndim == 2 or not beside_rows(value).any()
        return forward, np.vdot(x, at.dx[0]), np.abs(at.dx[0]).sum()

    forward, backward, size = np.sum(on_ranks(ranks, make(), plan, products), axis=0)
    assert forward == backward
    assert size > 0


class FeaturewiseWithParameters(Scale):
    def state(self, *inputs):
        return {}


@pytest.mark.parametrize("layer", [Scale(), FeaturewiseWithParameters()])
def test_what_has_parameters_or_state_does_not_follow_a_split_layer(layer):
    net = GraphBuilder((3, 7, 5))
    net.add("conv1", Conv2d(2 * LANES, 3, padding=1, feature_leaves=2))
    net.add("scale1", layer)
    net.add("relu1", ReLU())
    for graph in on_ranks(2, net.graph(), "conv1=2", lambda model, _: model.graph):
        held = {node.name: node.held for node in graph}
        assert held["conv1"] is Sharding.FEATURE
        assert held["scale1"] is held["relu1"] is Sharding.BATCH
        (exchange,) = (node for node in graph if node.name == "exchange scale1")
        assert isinstance(exchange.layer, SwapFeatures)
