"""State of layers: the rows of all leaves on every rank, updates, checkpoints and the hash."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.threads import run_ranks, single_rank
from comm.tree import Tree
from engine.graph import Graph, GraphBuilder
from engine.training.bucket import BEFORE_PARAMETERS
from engine.training.layer_states import LayerStates
from layers import layout
from layers.layer import State
from layers.relu import ReLU
from tests.toy_layer import Scale

LEAVES, CHANNELS = 8, 5


class Moments(Scale):
    """Notes values of several shapes, and keeps what it was given."""

    def state(self, *inputs):
        return {"mean": State((CHANNELS,)), "count": State((), initial=3.0)}

    def leaf_values(self, *inputs):
        return {"mean": (CHANNELS,), "products": (2, 3), "count": ()}

    def update_state(self, state, leaf_values, step):
        assert {name: values.shape for name, values in leaf_values.items()} == {
            "mean": (LEAVES, CHANNELS),
            "products": (LEAVES, 2, 3),
            "count": (LEAVES,),
        }
        state["mean"][...] = leaf_values["mean"].mean(axis=0)
        state["count"][...] = 1000 * step + leaf_values["count"].sum() + leaf_values["products"][-1, 1, 2]


def network() -> Graph:
    net = GraphBuilder((CHANNELS, 3, 2))
    net.add("first", Scale())
    net.add("relu", ReLU())
    net.add("second", Moments())
    return net.graph()


def states_of(world, graph=None, **given):
    collectives = Collectives(world, Tree.of(world.size, LEAVES))
    return LayerStates(graph or network(), collectives, InlineCommThread(), **given), collectives.tree


def note(states, leaves):
    """Write what a forward pass may note of some leaves."""
    for row, leaf in enumerate(leaves):
        states.leaf_values("first")["mean"][row] = leaf + np.arange(CHANNELS)
        second = states.leaf_values("second")
        second["mean"][row], second["count"][row] = 10 * leaf, leaf
        second["products"][row] = 100 * leaf + np.arange(6).reshape(2, 3)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 8])
def test_every_rank_updates_from_the_rows_of_all_leaves_in_their_order(ranks):
    def rank(world):
        states, tree = states_of(world)
        note(states, tree.leaves_of(world.rank))
        states.submit()
        states.update(step=2)
        return states.tensors(), states.sha256()

    everyone = run_ranks(ranks, rank)
    assert len({sha256 for _, sha256 in everyone}) == 1
    tensors, _ = everyone[0]
    mean = np.arange(CHANNELS) + 3.5
    np.testing.assert_allclose(tensors["first.mean"], 0.5 + (mean - 0.5) / 3, rtol=1e-6)
    np.testing.assert_array_equal(tensors["second.mean"], np.full(CHANNELS, 35.0))
    assert tensors["second.count"] == 2000 + 28 + 705


def test_state_starts_at_its_initial_value_in_float32():
    states, _ = states_of(single_rank())
    assert {name: (array.dtype, array.shape) for name, array in states.tensors().items()} == {
        "first.mean": (np.float32, (CHANNELS,)),
        "second.mean": (np.float32, (CHANNELS,)),
        "second.count": (np.float32, ()),
    }
    assert (states.state("first")["mean"] == 0.5).all()
    assert states.state("second")["count"] == 3.0
    assert states.state("relu") == states.leaf_values("relu") == {}


def test_tensors_are_copies_and_restored_into_what_the_layers_hold():
    states, _ = states_of(single_rank())
    before, held = states.tensors(), states.state("first")["mean"]
    held[...] = 7
    assert (before["first.mean"] == 0.5).all()
    changed = states.sha256()
    states.restore(before)
    assert (held == 0.5).all()
    assert states.sha256() != changed


def test_the_hash_is_over_all_state_sorted_by_name():
    states, _ = states_of(single_rank())
    tensors = states.tensors()
    whole = b"".join(tensors[name].astype("<f4").tobytes() for name in sorted(tensors))
    assert states.sha256() == hashlib.sha256(whole).hexdigest()


def test_a_network_without_state_sends_nothing_and_has_no_hash():
    net = GraphBuilder((CHANNELS, 3, 2))
    net.add("relu", ReLU())
    states, _ = states_of(single_rank(), net.graph())
    states.submit()
    states.update(step=0)
    assert states.tensors() == {}
    assert states.sha256() is None


class Ambiguous(Scale):
    def parameters(self, *inputs):
        return {"mean": replace(layout.bias(inputs[0][0]), variance=1.0)}


def test_a_parameter_and_a_state_of_one_name_are_refused():
    net = GraphBuilder((CHANNELS, 3, 2))
    net.add("scale", Ambiguous())
    with pytest.raises(ValueError, match=r"^scale: mean names a parameter and a state$"):
        states_of(single_rank(), net.graph())


def test_what_is_sent_has_a_name_and_goes_before_parameters():
    spans = []
    queue = InlineCommThread(
        on_span=lambda name, _start, _end, about: spans.append((name, about["priority"]))
    )
    world = single_rank()
    states = LayerStates(network(), Collectives(world, Tree.of(1, LEAVES)), queue)
    states.submit()
    assert ("gather leaf values", BEFORE_PARAMETERS) in spans


def test_averages_follow_the_state_and_change_places_with_it():
    states, _ = states_of(single_rank(), ema=0.5)
    states.start_averages(states.tensors())
    want = {}
    for step in range(12):
        note(states, range(LEAVES))
        states.submit()
        states.update(step)
        share = max(0.5, 10 / (step + 10))
        for name, array in states.tensors().items():
            before = want.get(name, 0.0)
            want[name] = before + share * (array.astype(np.float64) - before)
    own = states.tensors()
    with states.averaged():
        for name, array in states.tensors().items():
            np.testing.assert_allclose(array, want[name], rtol=1e-6)
        assert (states.tensors()["second.count"] != own["second.count"]).all()
    assert all((states.tensors()[name] == own[name]).all() for name in own)


def test_without_averages_the_state_stays_in_its_place():
    states, _ = states_of(single_rank())
    own = states.tensors()
    with states.averaged():
        assert all((states.tensors()[name] == own[name]).all() for name in own)
