"""Fused convolutions: what is fused, and that no bit shows it."""

import numpy as np
import pytest

from engine.graph import Graph, GraphBuilder, Node
from engine.graph.passes.fusion import fuse
from engine.models import MODELS
from layers.batch_norm import BatchNorm
from layers.conv2d import Conv2d
from layers.flatten import Flatten
from layers.fused_conv2d import Conv2dReLU, Conv2dReLUPool
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.relu import ReLU
from tests.engine.cluster import changed, train
from tests.engine.graphs import GRAPHS, bottlenecks, three_readers
from tests.layers.harness import problem, run


def kinds(graph: Graph) -> dict[str, type]:
    return {node.name: type(node.layer) for node in graph}


def wide() -> Graph:
    """Winograd in every pass, fused and not, with maps that the tiles do not divide."""
    net = GraphBuilder((3, 13, 11))
    net.add("conv1", Conv2d(64, 3, padding=1))
    net.add("relu1", ReLU())
    net.add("conv2", Conv2d(64, 3, padding=1))
    net.add("relu2", ReLU())
    net.add("pool2", MaxPool(2, 2))
    net.add("conv3", Conv2d(96, 5, padding=2))
    net.add("relu3", ReLU())
    net.add("pool3", MaxPool((2, 2), 2))
    net.add("flatten", Flatten())
    net.add("fc4", Linear(3, gain=1.0))
    return net.graph()


def test_vgg_a_loses_its_rectifiers_and_pools_in_the_convolutional_part():
    found = kinds(fuse(MODELS["vgg_a"]()))
    assert [found[f"conv{name}"] for name in ("1_1", "2_1", "3_1", "3_2")] == [
        Conv2dReLUPool, Conv2dReLUPool, Conv2dReLU, Conv2dReLUPool,
    ]  # fmt: skip
    assert not {"relu1_1", "pool1", "relu3_1"} & set(found)
    assert found["relu_fc6"] is ReLU


def test_a_value_with_several_readers_is_not_fused():
    found = kinds(fuse(GRAPHS["residual"]()))
    assert found["conv1"] is Conv2dReLU  # two read the ReLU, only one the convolution
    assert found["conv3"] is Conv2d  # an Add stands before the ReLU


@pytest.mark.parametrize("pool", [MaxPool(3, 2), MaxPool(2, 1), MaxPool(2, 2, 1)])
def test_other_pools_stay_layers(pool):
    net = GraphBuilder((3, 9, 9))
    net.add("conv", Conv2d(8, 3))
    net.add("relu", ReLU())
    net.add("pool", pool)
    assert kinds(fuse(net.graph())) == {"conv": Conv2dReLU, "pool": MaxPool}


def test_a_fused_output_is_still_the_output():
    net = GraphBuilder((3, 9, 9))
    net.add("conv", Conv2d(8, 3))
    net.add("relu", ReLU())
    graph = fuse(net.graph())
    assert graph.output == "conv"
    assert graph.output_shape == (8, 7, 7)


@pytest.mark.parametrize("make", [*GRAPHS.values(), wide, three_readers])
@pytest.mark.parametrize("conv", ["auto", "direct"])
def test_fusion_changes_no_bit(make, conv):
    graph = make()
    whole, _ = train(1, graph, changed(conv=conv, fuse=True), threads=2)
    parts, _ = train(2, graph, changed(conv=conv, fuse=False))
    assert whole["weights_sha256"] == parts["weights_sha256"]
    assert whole["final_loss"] == parts["final_loss"]


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("plan", ["last2=2", "last2=2,last3=2", "project=2"])
def test_a_plan_may_split_the_convolutions_of_a_block(plan, fuse):
    settings = {"conv_feature_leaves": 2, "fuse": fuse}
    whole, _ = train(1, bottlenecks(), changed(**settings))
    parts, _ = train(2, bottlenecks(), changed(plan=plan, **settings))
    assert whole["weights_sha256"] == parts["weights_sha256"]


@pytest.mark.parametrize("channels", [3, 64])
def test_zeros_and_ties_and_nan_go_the_same_way_fused(channels):
    conv, shape = Conv2d(64, 3, padding=1), (channels, 8, 10)
    given = problem(conv, (shape,), 4)
    x = given.inputs[0]
    x[0] = 0  # all windows are ties at the bias
    x[1] = np.round(x[1])
    given.parameters["bias"][::3] = 0
    given.parameters["bias"][1::3] = -1e3
    given.parameters["weight"][5] = np.nan
    before = run(conv, given)
    y = np.where(before.y[0].plain() <= 0, np.float32(0), before.y[0].plain())
    windows = y.reshape(4, 64, 4, 2, 5, 2).transpose(0, 1, 2, 4, 3, 5).reshape(4, 64, 4, 5, 4)
    fused = Conv2dReLUPool(conv)
    got = run(fused, problem_like(given, fused, shape)).y[0].plain()
    np.testing.assert_array_equal(got, windows.max(axis=-1))
    assert not np.signbit(got).any()


def problem_like(given, layer, shape):
    """Return the same inputs and parameters with a gradient that fits another layer."""
    made = problem(layer, (shape,), len(given.samples))
    return type(given)(given.inputs, given.parameters, made.dys, given.samples)


@pytest.mark.parametrize("number", range(3))
def test_layers_that_compute_something_else_stay_as_they_are(number):
    """Like a user's: a weighted convolution, a leaky rectifier, a pool of its own."""

    class OwnConv2d(Conv2d):
        def forward(self, at, run):
            raise NotImplementedError

    class OwnReLU(ReLU):
        pass

    class OwnMaxPool(MaxPool):
        pass

    layers = [Conv2d(8, 3), ReLU(), MaxPool(2, 2)]
    layers[number] = (OwnConv2d(8, 3), OwnReLU(), OwnMaxPool(2, 2))[number]
    net = GraphBuilder((3, 9, 9))
    for name, layer in zip("abc", layers, strict=True):
        net.add(name, layer)
    left = [kind for kind in kinds(fuse(net.graph())).values() if kind is type(layers[number])]
    assert left == [type(layers[number])]


def test_a_subclass_of_batch_norm_stays_as_it_is() -> None:
    class Own(BatchNorm):
        """Like a user's: what it computes is its own."""

    plain, own = (
        Graph((16, 4, 4), (Node("norm", layer, ("input",)), Node("relu", ReLU(), ("norm",))))
        for layer in (BatchNorm(), Own())
    )
    fused = fuse(plain)
    assert len(fused.nodes) == 1
    assert fuse(fused) == fused
    assert fuse(own) == own
