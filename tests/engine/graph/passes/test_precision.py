"""bf16: which values have it, and that nothing else about a run changes them."""

from dataclasses import dataclass, replace
from typing import final

import numpy as np
import pytest

from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.grid import Grid
from comm.threads import single_rank
from comm.tree import Tree
from engine.config.errors import UserError
from engine.data.loader import Batch
from engine.graph import INPUT, GraphBuilder
from engine.graph.parallel.exchange import Exchange
from engine.graph.parallel.plan import Plan
from engine.graph.passes.precision import Rounded, set_precision, store_rounded
from engine.training.rank import build_rank
from engine.training.rank_settings import settings_of
from engine.training.step import train_step
from engine.training.update import NOTHING
from layers.activations import ReLU6
from layers.avg_pool import AvgPool
from layers.batch_norm import BatchNorm
from layers.concat import Concat
from layers.conv2d import Conv2d
from layers.flatten import Flatten
from layers.kernels.threads import Threads
from layers.layer import Context, Layer
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.multiply import Multiply
from layers.precision import BF16, FP32
from layers.products import Unit
from layers.relu import ReLU
from layers.wrapped import WatchedLayer, WrappedLayer
from tests.engine.cluster import RECIPE, changed, train
from tests.engine.graphs import branches, chain, convolutional, mixed, normed, with_dropout
from tests.golden.networks import with_state

PLANS = {convolutional: "conv1=2,conv3=2,conv5=2,fc6=2", mixed: "fc4=2,fc5=2"}


def _hashes(ranks, graph, **fields):
    results, _ = train(ranks, graph(), replace(RECIPE, precision=BF16, norm_groups=4, **fields))
    return results["weights_sha256"], results["state_sha256"]


@pytest.mark.parametrize("graph", [convolutional, mixed, with_dropout, with_state, normed])
def test_ranks_plans_and_microbatches_change_no_bit(graph):
    leaves = 2 if graph in PLANS else 1
    alone = _hashes(1, graph, conv_feature_leaves=leaves)
    ways = [{"fuse": False}, {"accumulate": 2}, {"overlap": False}]
    if graph in PLANS:
        ways += [{"plan": PLANS[graph]}, {"plan": PLANS[graph], "accumulate": 2}]
    for fields in ways:
        assert _hashes(2, graph, conv_feature_leaves=leaves, **fields) == alone, fields
    assert _hashes(4, graph, conv_feature_leaves=leaves) == alone


@final
@dataclass(frozen=True)
class _Watched(WatchedLayer):
    """Sees that what a layer reads has values of bf16."""

    reads_input: bool

    def forward(self, at, run):
        assert self.reads_input or all(map(_is_bf16, at.x)), self.node
        self.layer.forward(at, run)

    def backward_weights(self, at, run):
        self.layer.backward_weights(at, run)
        if isinstance(self.layer, Rounded):
            assert all(map(_is_bf16, at.dy)), self.node


def _is_bf16(values):
    return not (np.ascontiguousarray(values).view(np.uint32) & 0xFFFF).any()


def pooled_first():
    """Return a network whose first convolution reads what layers that move values have made of the input."""
    net = GraphBuilder((16, 8, 8))
    pooled = net.add("pool", MaxPool(2, 2), INPUT)
    again = net.add("again", MaxPool(2, 2), INPUT)
    net.add("joined", Concat(), pooled, again)
    net.add("conv", Conv2d(16, 3, padding=1))
    net.add("flatten", Flatten())
    net.add("fc", Linear(3))
    return net.graph()


class _OwnReLU(ReLU):
    """A rectifier whose values are others."""

    def forward(self, at, run):
        super().forward(at, run)
        at.y[0][...] *= np.float32(0.3)


class _OwnConv2d(Conv2d):
    """A convolution whose values are others."""

    def forward(self, at, run):
        super().forward(at, run)
        at.y[0][...] *= np.float32(0.3)


@final
@dataclass(frozen=True)
class _Around(WrappedLayer):
    """A layer around one of the engine's, whose values are others."""

    layer: Layer

    @property
    def inner(self):
        return self.layer

    def around(self, layer):
        return _Around(layer)

    def forward(self, at, run):
        self.layer.forward(at, run)
        at.y[0][...] *= np.float32(0.3)


def of_a_user():
    """Return a network of layers that a user has made of the engine's."""
    net = GraphBuilder((3, 6, 6))
    net.add("own", _OwnConv2d(16, 3, padding=1))
    net.add("conv1", Conv2d(16, 3, padding=1))
    net.add("leaky", _OwnReLU())
    net.add("around", _Around(Conv2d(16, 3, padding=1)))
    net.add("conv2", Conv2d(16, 3, padding=1))
    net.add("flatten", Flatten())
    net.add("fc", Linear(3))
    return net.graph()


@pytest.mark.parametrize("graph", [convolutional, branches, with_state, pooled_first, of_a_user])
def test_what_layers_hand_on_has_values_of_bf16_but_for_the_logits(graph):
    def watched(node):
        reads_input = any(value.startswith((INPUT, f"fork {INPUT}")) for value in node.inputs)
        return _Watched(node.layer, node.name, reads_input)

    assert not _is_bf16(_output(graph(), watched))


def _output(graph, wrap=None):
    """Return what a network makes in a step of training."""
    settings = replace(settings_of(changed(precision=BF16), 1), batch=8)
    collectives = Collectives(single_rank(), Tree.of(1, 4))
    queue = InlineCommThread()
    rank = build_rank(graph, settings, Plan(), Grid.of(collectives, 1), queue, wrap=wrap)
    rank.initialise(1)
    x = np.random.default_rng(1).standard_normal((8, *rank.graph.input_shape), np.float32)
    batch = Batch(x, np.zeros(8, np.int32), np.arange(8), epoch=0)
    train_step(rank, (batch,), Context(Threads(1)), NOTHING)
    return rank.memory.output


@pytest.mark.parametrize(
    "layers",
    [(Flatten(), Linear(3), Multiply(0.5)), (Conv2d(16, 3), AvgPool(), Flatten())],
    ids=["scaled", "laid flat"],
)
def test_logits_are_fp32_also_behind_the_layer_that_makes_them(layers):
    net = GraphBuilder((16, 6, 6))
    for number, layer in enumerate(layers):
        net.add(f"layer{number}", layer)
    assert not _is_bf16(_output(net.graph()))


def clipped():
    """Return a network with values that rounding moves to the upper end of an activation."""
    net = GraphBuilder((3, 8, 8))
    net.add("conv1", Conv2d(16, 3, padding=1))
    net.add("norm1", BatchNorm(initial_scale=4.0))
    net.add("relu1", ReLU6())
    net.add("flatten", Flatten())
    net.add("fc", Linear(4))
    return net.graph()


def test_what_is_rounded_to_the_end_of_an_activation_has_no_gradient_fused_or_not():
    assert _hashes(1, clipped) == _hashes(1, clipped, fuse=False)


def test_fp32_leaves_a_graph_as_it_is():
    assert set_precision(chain(), FP32, Unit.HARDWARE) == store_rounded(chain(), FP32, Exchange) == chain()


def test_training_in_bf16_follows_training_in_fp32():
    ends = [train(1, mixed(), changed(precision=precision, steps=8))[0] for precision in (FP32, BF16)]
    losses = [end["final_loss"] for end in ends]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(*losses, rtol=0.05)


def test_another_precision_is_refused():
    with pytest.raises(UserError, match=r'^precision: got "fp16".*; must be one of fp32, bf16'):
        changed(precision="fp16").check(())
    with pytest.raises(ValueError, match="precision: got 'fp16'; must be one of fp32, bf16"):
        Linear(3, precision="fp16")


def test_the_precision_of_a_recipe_is_that_of_all_layers():
    net = GraphBuilder((5,))
    net.add("fc", Linear(3, precision=BF16))
    assert [node.layer for node in set_precision(net.graph(), FP32)] == [Linear(3)]
