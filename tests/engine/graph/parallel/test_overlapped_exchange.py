"""An exchange in front of a layer with weights: one node, whose gradients and messages go side by side."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from comm.collectives import Collectives
from comm.comm_thread import CommThread, InlineCommThread
from comm.grid import Grid
from comm.threads import run_ranks
from comm.tree import Tree
from engine.data.loader import Batch
from engine.graph import Graph, GraphBuilder
from engine.graph.parallel.exchange import Exchange
from engine.graph.parallel.overlapped_exchange import OverlappedExchange, overlap_exchanges
from engine.graph.parallel.partition import partition
from engine.graph.parallel.plan import Plan
from engine.graph.passes.fork import insert_forks
from engine.training.rank import build_rank
from engine.training.rank_settings import RankSettings
from engine.training.step import train_step
from engine.training.update import NOTHING
from layers.conv2d import Conv2d
from layers.flatten import Flatten
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads
from layers.layer import Context
from layers.linear import Linear
from layers.wrapped import WatchedLayer
from tests.engine.graphs import convolutional, wide

BATCH, LEAVES = 16, 8


@dataclass(frozen=True)
class Noted(WatchedLayer):
    """Notes its passes; an exchange's job is noted by the queue."""

    events: list[str] = field(default_factory=list)

    def backward_weights(self, at, run):
        if at.gradients:
            self.events.append(f"weights of {self.node}")
        self.layer.backward_weights(at, run)

    def backward_data(self, at, run):
        self.events.append(f"data of {self.node}")
        self.layer.backward_data(at, run)


@dataclass(frozen=True)
class NotedExchange(Noted):
    def begin_backward_data(self, at, run):
        finish = self.layer.begin_backward_data(at, run)

        def end():
            self.events.append(f"end of {self.node}")
            finish()

        return end


def noting(queue, events):
    """Let a queue note what is submitted."""
    submit = queue.submit

    def note(job, *, name, **options):
        events.append(name)
        return submit(job, name=name, **options)

    queue.submit = note
    return queue


def backward(
    ranks: int, graph: Graph, plan: str, make=InlineCommThread, *, feature_leaves=1, fused=False
) -> list[str]:
    """Return what rank 0 does in a step from the loss on."""

    def rank(world):
        plan_, events = Plan.parse(plan), list[str]()
        queue = noting(make(), events)
        collectives = Collectives(world, Tree.of(ranks, LEAVES))
        grid = Grid.of(collectives, plan_.parts)

        def noted(node):
            kind = NotedExchange if isinstance(node.layer, Exchange) else Noted
            return kind(node.layer, node.name, events=events)

        settings = RankSettings(BATCH, 1, conv_feature_leaves=feature_leaves, fuse=fused)
        mine = build_rank(graph, settings, plan_, grid, queue, wrap=noted)
        count = mine.memory.own_samples.stop - mine.memory.own_samples.start
        labels = np.zeros(count, np.int32)
        batch = Batch(np.ones((count, *graph.input_shape), np.float32), labels, labels, epoch=0)
        train_step(mine, (batch,), Context(Threads(1)), NOTHING)
        mine.parameters.wait()
        queue.close()
        return events[events.index("gather loss") + 1 :]

    return run_ranks(ranks, rank)[0]


@pytest.mark.parametrize("make", [InlineCommThread, CommThread])
def test_the_way_back_is_under_way_while_the_gradient_of_the_weights_is_computed(make):
    events = backward(2, wide(), "fc2=2,fc4=2", make)
    start = events.index("data of fc4")
    assert events[start : start + 6] == [
        "data of fc4",
        "exchange fc4",
        "weights of fc4",
        "reduce fc4",
        "end of exchange fc4",
        "update fc4",
    ]
    assert events.index("data of fc2") < events.index("exchange fc2") < events.index("weights of fc2")


@pytest.mark.parametrize("fused", [False, True])
def test_images_too_go_back_beside_the_gradient_of_the_weights(fused):
    plan = "conv2=2,conv3=2,conv4=2"
    events = backward(2, convolutional(), plan, feature_leaves=2, fused=fused)
    for name in ("conv2", "conv3", "conv4"):  # fused: one that pools too, a plain one, one that rectifies
        start = events.index(f"data of {name}")
        assert events[start : start + 3] == [f"data of {name}", f"exchange {name}", f"weights of {name}"]
    assert events.index("weights of fc6") < events.index("data of fc6")


def test_what_reads_no_exchange_computes_the_gradient_of_its_weights_first():
    events = backward(2, wide(), "fc2=2")
    assert events.index("weights of fc4") < events.index("data of fc4")


def test_the_graphs_input_has_no_way_back():
    events = backward(2, wide(), "fc1=2")
    assert "weights of fc1" in events
    assert "exchange fc1" not in events


def test_what_reads_an_exchanged_input_leaves_the_input_in_whole_blocks():
    net = GraphBuilder((3, 8, 8))
    net.add("conv1", Conv2d(4 * LANES, 3, feature_leaves=2))
    net.add("flatten", Flatten())
    net.add("fc2", Linear(3))

    def lanes(world):
        grid = Grid.of(Collectives(world, Tree.of(2, LEAVES)), 2)
        parted = partition(insert_forks(net.graph()), Plan.parse("conv1=2"), grid, InlineCommThread())
        graph = overlap_exchanges(parted)
        (node,) = (node for node in graph if node.name == "conv1")
        layer, inputs = node.layer, graph.input_shapes(node)
        assert isinstance(layer, OverlappedExchange)
        return layer.input_lanes(*inputs), layer.layer.input_lanes(*layer.inner_shapes(*inputs))

    assert run_ranks(2, lanes)[0] == (LANES, 3)


def test_only_layers_with_weights_hide_their_exchange():
    def rank(world):
        queue, plan = InlineCommThread(), Plan.parse("fc2=2,fc4=2")
        grid = Grid.of(Collectives(world, Tree.of(2, LEAVES)), 2)
        parted = partition(insert_forks(wide()), plan, grid, queue)
        return parted, overlap_exchanges(parted)

    parted, merged = run_ranks(2, rank)[0]
    before = {node.name for node in parted}
    assert before - {node.name for node in merged} == {"exchange fc2", "exchange fc4"}
    assert "exchange add3:0" in {node.name for node in merged}
    assert {node.name for node in merged if isinstance(node.layer, OverlappedExchange)} == {"fc2", "fc4"}
    assert merged.parameter_count() == parted.parameter_count()
    for node in merged:
        (whole,) = (other for other in parted if other.name == node.name)
        assert (node.held, node.first, len(node.shards)) == (whole.held, whole.first, len(whole.shards))
        assert merged.shapes[node.outputs[0]] == parted.shapes[node.outputs[0]]
