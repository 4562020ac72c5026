"""Grouped convolution: how groups are put together, and what lies between them."""

import re

import numpy as np
import pytest

from layers.grouped_conv2d import GroupedConv2d, _clear_between_groups, together
from layers.layer import Shape
from layers.work import FORWARD


@pytest.mark.parametrize(
    ("groups", "channels", "out_channels", "number"),
    [(2, 16, 16, 1), (4, 32, 16, 1), (32, 4, 4, 4), (32, 4, 8, 4), (8, 2, 1, 8), (3, 8, 16, 3), (6, 8, 8, 2)],
)
def test_as_few_groups_are_put_together_as_fill_vectors(
    groups: int, channels: int, out_channels: int, number: int
) -> None:
    assert together(groups, channels, out_channels) == number


LAYERS = [(GroupedConv2d(32, 3, 8, padding=1), (32, 5, 5)), (GroupedConv2d(9, 2, 3), (6, 4, 4))]


@pytest.mark.parametrize("computed", [2, np.inf, np.nan])
@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=str)
def test_what_lies_between_groups_is_zero_and_gets_no_gradient(
    layer: GroupedConv2d, shape: Shape, computed: float
) -> None:
    weight = layer.parameters(shape)["weight"]
    stored = np.full(weight.blocked, np.nan, np.float32)
    weight.pack(np.ones(weight.shape, np.float32), stored)
    assert np.count_nonzero(stored) == np.prod(weight.shape)
    gradient = np.full(weight.blocked, computed, np.float32)
    _clear_between_groups(layer._cut(shape), gradient)
    np.testing.assert_array_equal(gradient, np.where(stored, np.float32(computed), 0))


def test_the_planner_is_told_what_is_wanted_and_what_is_computed() -> None:
    layer, shape = GroupedConv2d(32, 3, 8, padding=1), (32, 5, 5)
    assert layer.extents(shape).weights == np.prod(layer.parameters(shape)["weight"].shape)
    assert layer.flops(shape) == 2 * 32 * 4 * 9 * 25
    assert layer.executed_flops(FORWARD, 1, 1, shape) == 4 * layer.flops(shape)


def test_channels_that_groups_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("groups: got 5; must be at least 1 and divide")):
        GroupedConv2d(32, 3, 5)
    with pytest.raises(ValueError, match=re.escape("groups: got 0; must be at least 1")):
        GroupedConv2d(32, 3, 0)
    with pytest.raises(ValueError, match="groups=4 does not divide the 18 channels of the input"):
        GroupedConv2d(32, 3, 4).output_shape((18, 5, 5))
