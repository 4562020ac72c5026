"""A layer around another one answers as that one does, for every member of the contract."""

import inspect

import pytest

from engine.graph.parallel.overlapped_exchange import OverlappedExchange
from engine.graph.parallel.shared_norm import SharedNorm
from engine.graph.passes.accumulate import Accumulated
from engine.graph.passes.freeze import Frozen
from engine.graph.passes.rates import OwnRate
from engine.profile.recorder import Recorder
from engine.profile.timed_layer import TimedLayer
from layers.conv2d import Conv2d
from layers.fused_conv2d import Conv2dReLU, Conv2dReLUPool
from layers.given import Given
from layers.joining_conv2d import JoiningConv2d
from layers.layer import Layer
from layers.linear import Linear
from layers.work import PASSES
from layers.wrapped import ATTRIBUTES, WrappedLayer
from tests.layers.cases import CASES

CONTRACT = sorted(name for name in vars(Layer) if not name.startswith("_"))
METHODS = [name for name in CONTRACT if callable(getattr(Layer, name))]
WRAPPERS = (
    TimedLayer,
    OverlappedExchange,
    SharedNorm,
    Conv2dReLU,
    Conv2dReLUPool,
    JoiningConv2d,
    Frozen,
    OwnRate,
    Accumulated,
    Given,
)


def test_every_member_of_the_contract_is_forwarded():
    assert {"forward", "halo", "outputs", "state", "extents"} <= set(CONTRACT)
    assert sorted(ATTRIBUTES) == [name for name in CONTRACT if name not in METHODS]
    assert [name for name in METHODS if name not in vars(WrappedLayer)] == []


def test_all_wrappers_have_the_base_that_forwards():
    assert all(issubclass(wrapper, WrappedLayer) for wrapper in WRAPPERS)


def test_a_member_that_nobody_forwards_is_noticed(monkeypatch):
    monkeypatch.setattr(Layer, "added_later", lambda _: 1, raising=False)
    methods = [name for name in vars(Layer) if callable(getattr(Layer, name)) and not name.startswith("_")]
    assert [name for name in methods if name not in vars(WrappedLayer)] == ["added_later"]


class Spy(Layer):
    """A layer that answers every method with its name and arguments."""

    def __getattribute__(self, name):
        if name not in METHODS:
            return super().__getattribute__(name)
        return lambda *given: (self,) if name == "shard" else (name, *given)

    output_shape = forward = backward_data = None


@pytest.mark.parametrize("name", [name for name in METHODS if name not in {*PASSES, "shard", "update_state"}])
def test_a_forwarded_method_calls_the_layer_inside(name):
    arguments = tuple(range(len(inspect.signature(getattr(Layer, name)).parameters) - 1))
    watched = TimedLayer(Spy(), "node", Recorder())
    assert getattr(watched, name)(*arguments) == (name, *arguments)


def test_shards_are_wrapped_alike():
    watched = TimedLayer(Spy(), "node", Recorder())
    (shard,) = watched.shard(1)
    assert isinstance(shard, TimedLayer)
    assert shard.layer is watched.layer


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_watched_layer_says_what_the_layer_says(case):
    timed = TimedLayer(case.layer, "node", Recorder())
    assert all(getattr(timed, name) == getattr(case.layer, name) for name in ATTRIBUTES)
    assert timed.output_shape(*case.shapes) == case.layer.output_shape(*case.shapes)
    assert timed.scratch(4, 2, 3, *case.shapes) == case.layer.scratch(4, 2, 3, *case.shapes)
    assert timed.halo(*case.shapes) == case.layer.halo(*case.shapes)
    assert timed.extents(*case.shapes) == case.layer.extents(*case.shapes)
    assert timed.cost_key() == case.layer.cost_key()
    assert repr(timed.onnx(*case.shapes)) == repr(case.layer.onnx(*case.shapes))  # arrays have no ==
    assert timed.parameters(*case.shapes).keys() == case.layer.parameters(*case.shapes).keys()
    if isinstance(case.layer, Linear):
        assert tuple(shard.layer for shard in timed.shard(1)) == case.layer.shard(1)


def test_a_cost_names_a_precision_only_where_it_is_another_one_than_before() -> None:
    assert "precision" not in Conv2d(8, 3).cost_key()
    assert Conv2d(8, 3, precision="bf16").cost_key() == Conv2d(8, 3).cost_key()[:-1] + ", precision=bf16)"
