"""A timed layer is the layer it times, to the engine and to the bit."""

from dataclasses import replace

import numpy as np
import pytest

from engine.graph import Graph
from engine.graph.passes.fork import insert_forks
from engine.profile.recorder import Recorder
from engine.profile.timed_layer import TimedLayer, timed
from layers.kernels.threads import Threads
from layers.layer import Buffers, Context, Layer
from layers.work import PASSES
from tests.engine.graphs import GRAPHS


@pytest.mark.parametrize("name", GRAPHS)
def test_a_timed_graph_has_the_same_values_and_parameters(name):
    graph, recorder = insert_forks(GRAPHS[name]()), Recorder()
    nodes = tuple(replace(node, layer=timed(node, recorder)) for node in graph)
    wrapped = Graph(graph.input_shape, nodes)
    assert wrapped.shapes == graph.shapes
    assert wrapped.parameter_count() == graph.parameter_count()
    assert [node.outputs for node in wrapped] == [node.outputs for node in graph]


class Doubling(Layer):
    def output_shape(self, *inputs):
        return inputs[0]

    def forward(self, at, run):
        np.multiply(at.x[0], 2, out=at.y[0])

    def backward_weights(self, at, run):
        at.gradients["scale"][...] = 3

    def backward_data(self, at, run):
        np.multiply(at.dy[0], 2, out=at.dx[0])


def test_each_pass_runs_the_layer_and_is_recorded_by_name():
    recorder, arrays = Recorder(keep=True), [np.full(4, value, np.float32) for value in (1, 0, 0, 5)]
    x, y, dx, dy = arrays
    at = Buffers(0, ((4,),), (4,), (x,), (y,), (dx,), (dy,), gradients={"scale": np.zeros(1, np.float32)})
    layer = TimedLayer(Doubling(), "twice", recorder)
    for direction in PASSES:
        getattr(layer, direction)(at, Context(Threads(1)))
    assert (y[0], dx[0], at.gradients["scale"][0]) == (2, 10, 3)
    assert [span.name for span in recorder.spans] == [f"twice {direction}" for direction in PASSES]
    assert all(span.attributes["layer"] == "twice" for span in recorder.spans)
    assert all(span.end >= span.start for span in recorder.spans)


def test_a_layer_without_parameters_has_no_weight_pass():
    recorder = Recorder(keep=True)
    at = Buffers(0, ((4,),), (4,), (), (), (), ())
    TimedLayer(Layerless(), "none", recorder).backward_weights(at, Context(Threads(1)))
    assert not recorder.spans


class Layerless(Doubling):
    def backward_weights(self, at, run):
        pass
