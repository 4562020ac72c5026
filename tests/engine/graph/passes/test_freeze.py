"""Frozen layers say that they are not trained, and answer otherwise as the layers inside do."""

import pytest

from engine.config.errors import UserError
from engine.graph.passes.freeze import Frozen, check_frozen, freeze
from tests.engine.graphs import chain
from tests.test_new_layer import network as with_state


def factors(graph):
    return {
        node.name: {each.rate_factor for each in node.layer.parameters(*graph.input_shapes(node)).values()}
        for node in graph
    }


def test_the_parameters_of_frozen_layers_have_no_rate():
    before, after = factors(chain()), factors(freeze(chain(), ["conv*"]))
    assert {name: its for name, its in after.items() if its != before[name]} == {"conv1": {0}, "conv2": {0}}
    assert freeze(chain(), []) == chain()


def test_nothing_is_noted_for_the_state_of_a_frozen_layer_and_forward_has_room_to_note_it():
    graph = freeze(with_state(), ["scale1"])
    frozen = {node.name: node for node in graph}["scale1"]
    shapes = graph.input_shapes(frozen)
    assert isinstance(frozen.layer, Frozen)
    assert frozen.layer.leaf_values(*shapes) == {}
    assert frozen.layer.scratch(8, 4, 1, *shapes)["leaf_values mean"].shape == (4, 20)
    assert frozen.layer.state(*shapes).keys() == {"mean"}


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["conv9"], r'^freeze: got "conv9", which fits no layer with weights; must be one of conv1, conv2'),
        (["*"], r"^freeze: got \*, which leaves no layer with weights to train$"),
        (["conv*", "fc?"], r"^freeze: got conv\*, fc\?, which leaves no layer"),
    ],
)
def test_what_cannot_be_frozen_is_said(patterns, message):
    with pytest.raises(UserError, match=message):
        check_frozen(chain(), patterns)


def test_what_can_be_frozen_passes():
    check_frozen(chain(), [])
    check_frozen(chain(), ["conv*"])
