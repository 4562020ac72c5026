"""A timed layer is the layer it times, to the engine and to the bit."""

import inspect

import numpy as np
import pytest

from engine.graph.passes.fork import insert_forks
from engine.graph.passes.wrapped import WrappedLayer
from engine.profile.recorder import PASSES, Recorder
from engine.profile.timed_layer import TimedLayer, time_layers
from layers.kernels.threads import Threads
from layers.layer import Buffers, Context, Layer
from layers.linear import Linear
from tests.engine.graphs import GRAPHS
from tests.layers.cases import CASES

CONTRACT = sorted(name for name in vars(Layer) if not name.startswith("_"))


def test_all_of_the_contract_is_handed_on():
    assert {"forward", "halo", "outputs"} <= set(CONTRACT)
    own = set[str]().union(
        *(vars(each).keys() | each.__annotations__.keys() for each in (TimedLayer, WrappedLayer))
    )
    assert set(CONTRACT) <= own


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_timed_layer_says_what_the_layer_says(case):
    timed = TimedLayer(case.layer, "node", Recorder())
    for name in CONTRACT:
        own, presented = getattr(case.layer, name), getattr(timed, name)
        if name == "scratch":
            assert presented(4, 2, 3, *case.shapes) == own(4, 2, 3, *case.shapes)
        elif name == "shard":
            if isinstance(case.layer, Linear):
                assert tuple(shard.layer for shard in presented(1)) == own(1)
        elif name == "parameters":
            assert presented(*case.shapes).keys() == own(*case.shapes).keys()
        elif name in (*PASSES, "backward_data_first", "begin_backward_data"):
            assert inspect.signature(presented) == inspect.signature(own)
        elif callable(own):
            assert presented(*case.shapes) == own(*case.shapes), name
        else:
            assert presented == own, name


@pytest.mark.parametrize("name", GRAPHS)
def test_a_timed_graph_has_the_same_values_and_parameters(name):
    graph = insert_forks(GRAPHS[name]())
    timed = time_layers(graph, Recorder())
    assert timed.shapes == graph.shapes
    assert timed.parameter_count() == graph.parameter_count()
    assert [node.outputs for node in timed] == [node.outputs for node in graph]


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
