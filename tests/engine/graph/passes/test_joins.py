"""Convolutions join the gradients by two readers where they store their own, to the same bits."""

import numpy as np
import pytest

from bench.ours import Ours
from engine.graph import GraphBuilder
from engine.graph.passes.fork import insert_forks
from engine.graph.passes.fusion import fuse
from engine.graph.passes.joins import join_gradients
from layers.add import Add
from layers.batch_norm import BatchNorm
from layers.conv2d import Conv2d
from layers.fork import Fork
from layers.fused_norm import FusedBatchNorm
from layers.joining_conv2d import JoiningConv2d
from layers.relu import ReLU
from layers.wrapped import unwrapped
from tests.engine.graphs import bottlenecks


def blocks(first: Conv2d, *, readers: int = 1):
    """Return the first layers of two residual blocks, joined; a value more has `readers` of its own."""
    net = GraphBuilder((16, 6, 6))
    net.add("stem", Conv2d(32, 3, padding=1))
    one = net.add("shortcut", Conv2d(32, 1, bias=False), "stem")
    net.add("inner", Conv2d(32, 1, bias=False), "stem")
    net.add("norm", BatchNorm())
    net.add("sum", Add(), "norm", one)
    value = net.add("relu", ReLU())
    net.add("first", first, value)
    net.add("second", Conv2d(32, 1, bias=False))
    for number in range(readers):
        net.add(f"sum {number}", Add(), net.graph().output, value)
    return join_gradients(insert_forks(fuse(net.graph())))


def layers_of(graph):
    return {node.name: node.layer for node in graph}


def test_the_first_reader_joins_and_what_made_the_value_reads_the_gradient_before_its_relu():
    found = layers_of(blocks(Conv2d(32, 1, bias=False)))
    assert found["first"] == JoiningConv2d(Conv2d(32, 1, bias=False), rectifies=True)
    assert found["fork norm"] == Fork(2, joined=0)
    assert isinstance(found["norm"], FusedBatchNorm)
    assert found["norm"].rectified
    assert not found["norm"].reads_y
    assert found["norm"].shared_gradients == ((1, 0),)


def test_a_value_that_no_relu_made_is_joined_as_it_is():
    found = layers_of(blocks(Conv2d(32, 1, bias=False)))
    assert found["shortcut"] == JoiningConv2d(Conv2d(32, 1, bias=False))
    assert found["fork stem"] == Fork(2, joined=0)


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(Conv2d(32, 3, padding=1), id="3x3"),
        pytest.param(Conv2d(32, 1, feature_leaves=2), id="feature leaves"),
    ],
)
def test_other_convolutions_do_not_join(first):
    found = layers_of(blocks(first))
    assert found["first"] == first
    assert found["fork norm"] == Fork(2)
    assert not found["norm"].rectified


def test_a_value_with_three_readers_is_added_up_by_its_fork():
    found = layers_of(blocks(Conv2d(32, 1, bias=False), readers=2))
    assert found["fork norm"] == Fork(3)
    assert isinstance(found["first"], Conv2d)


def test_blocks_of_1x1_convolutions_need_no_pass_for_their_forks():
    graph = join_gradients(insert_forks(fuse(bottlenecks())))
    forks = {node.name: node.layer for node in graph if isinstance(node.layer, Fork)}
    assert forks == {"fork norm1": Fork(2, joined=0), "fork norm_last2": Fork(2, joined=0)}
    joining = {node.name: node.layer.rectifies for node in graph if isinstance(node.layer, JoiningConv2d)}
    assert joining == {"first2": False, "first3": True}


def test_a_fork_knows_which_of_two_joins():
    with pytest.raises(ValueError, match="joined must be one of two outputs"):
        Fork(3, joined=0)
    with pytest.raises(ValueError, match="joined must be one of two outputs"):
        Fork(2, joined=2)


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2, "norm_groups": 2}], ids=str)
def test_a_residual_network_has_the_same_bits_with_and_without(changes):
    def sides(*, fuse):
        arguments = {"classes": 10, "image": (3, 32, 32)}
        side = Ours("resnet50", samples=8, leaves=4, threads=2, fuse=fuse, arguments=arguments, **changes)
        losses = side.train(3).losses
        return side, losses, side.weights_sha256()

    (joined, *found), (_, *wanted) = sides(fuse=True), sides(fuse=False)
    assert found == wanted
    layers = [unwrapped(node.layer) for node in joined.rank.graph if node.name.startswith("fork ")]
    forks = [layer for layer in layers if isinstance(layer, Fork)]
    assert [fork.joined for fork in forks] == [0] * 16
    assert np.isfinite(found[0]).all()
