"""What a user's network says of itself is looked at before anything is computed from it."""

import re
from dataclasses import dataclass

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.graph import Graph, Node
from engine.graph.check import check_network
from layers.avg_pool import AvgPool
from layers.conv2d import Conv2d
from layers.linear import Linear
from layers.relu import ReLU


@dataclass(frozen=True)
class Own(ReLU):
    """Has a field of a type that nobody knows."""

    table: tuple[float, ...] = ()


def network(layer, *, name="a", shape=(1, 8, 8)):
    return Graph(shape, (Node(name, layer, ("input",)),))


WRONG = {
    "a: out_channels is 1.5; must be a whole number, at most 2147483647": (Conv2d(1.5, 3), {}),
    "a: out_channels is True; must be": (Conv2d(True, 3), {}),
    "a: out_channels is 1e+25; must be": (Conv2d(1e25, 3), {}),
    "a: out_channels is 2147483648; must be": (Conv2d(2**31, 3), {}),
    "a: kernel is (3, 3.0); must be a whole number, at most 2147483647, or two": (Conv2d(1, (3, 3.0)), {}),
    "a: gain is 'x'; must be a number that is finite": (Conv2d(1, 3, gain="x"), {}),
    "a: gain is nan; must be a number": (Conv2d(1, 3, gain=float("nan")), {}),
    "a: gain is True; must be a number": (Linear(1, gain=True), {"shape": (3,)}),
    "a: out_features is 1.5; must be": (Linear(1.5), {"shape": (3,)}),
    "a: gain is 1000000000": (Linear(1, gain=10**400), {"shape": (3,)}),
    "a: window is 2.0; must be": (AvgPool((2, 2)), {}),
    "reads samples of shape (0, 8, 8); must be sizes, each from 1": (ReLU(), {"shape": (0, 8, 8)}),
    "reads samples of shape ('a',); must be sizes, each from 1": (ReLU(), {"shape": ("a",)}),
    "a layer is called 3; must be text": (ReLU(), {"name": 3}),
    "a layer is called ''; must be text": (ReLU(), {"name": ""}),
    r"a layer is called '\ud800'; must be text": (ReLU(), {"name": "\ud800"}),
    r"a layer is called 'a\nb'; must be text": (ReLU(), {"name": "a\nb"}),
    "a layer is called 'fork relu'; names that begin with 'fork ' or 'exchange '": (
        ReLU(),
        {"name": "fork relu"},
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_no_network_can_be_made_of_is_named(message):
    layer, changed = WRONG[message]
    made = network(layer, **changed)
    if "window" in message:
        object.__setattr__(made.nodes[0].layer, "window", 2.0)
    with pytest.raises(UserError, match=f"^model: m: {re.escape(message)}"):
        check_network(made, "model: m")


@pytest.mark.parametrize(
    "layer",
    [
        Conv2d(np.int64(8), (3, 1), gain=1),
        Conv2d(8, 3, gain=np.float32(0.5)),
        AvgPool(),
        AvgPool(2),
        Own(table=(1.5,)),
    ],
)
def test_numbers_of_any_kind_and_fields_of_users_own_layers_are_taken(layer):
    check_network(network(layer, name="block/1.größe"), "model: m")
