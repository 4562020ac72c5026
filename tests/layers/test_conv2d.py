"""Convolutions whose backward_data sum is cut into feature leaves, and the shards that share them."""

from dataclasses import replace

import numpy as np
import pytest

from layers.conv2d import Conv2d
from layers.fused_conv2d import Conv2dReLU, Conv2dReLUPool
from layers.kernels import conv_direct
from layers.kernels.conv_algorithm import channels_per_leaf
from layers.kernels.direct_tile import MOST_SHORT, groups_together
from layers.kernels.register_tile import MOST_VECTORS, TILE_ROWS
from layers.kernels.simd import LANES
from layers.layer import Layer, Shape
from tests.layers import harness

SHAPES = [
    (Conv2d(8 * LANES, 3, padding=1), (64, 9, 11)),  # Winograd, with maps that the tiles do not divide
    (Conv2d(8 * LANES, 5, padding=2), (2 * LANES, 6, 7)),
    (Conv2d(12 * LANES, 3, padding=1), (LANES, 8, 8)),  # 3 vectors in each of 4 leaves
    (Conv2d(4 * LANES, (3, 2), stride=2, padding=(1, 0)), (17, 7, 6)),
    (Conv2d(4 * LANES, 7, stride=2, padding=3), (3, 12, 10)),  # a first layer
]


@pytest.mark.parametrize(
    "channels", [1, 10, LANES, 2 * LANES, 3 * LANES, 6 * LANES, 24 * LANES, 24 * LANES + 1]
)
@pytest.mark.parametrize("most", [1, 2, 4, 8])
def test_feature_leaves_are_equal_runs_of_whole_vectors_and_a_power_of_two(channels: int, most: int) -> None:
    leaf = channels_per_leaf(channels, most)
    leaves = channels // leaf
    assert leaves * leaf == channels
    assert leaves & (leaves - 1) == 0
    assert leaves <= most
    assert leaves == 1 or leaf % LANES == 0
    assert leaves == most or channels % (2 * leaves * LANES)


def test_one_feature_leaf_is_the_default_and_the_channels_say_how_many_there_can_be() -> None:
    assert Conv2d(64, 3).feature_leaves == 1
    assert channels_per_leaf(24 * LANES, 64) == 3 * LANES
    with pytest.raises(ValueError, match="feature_leaves must be a power of two"):
        Conv2d(64, 3, feature_leaves=3)


def _tree(values: list[np.ndarray]) -> np.ndarray:
    while len(values) > 1:
        values = [left + right for left, right in zip(values[::2], values[1::2], strict=True)]
    return values[0]


@pytest.mark.parametrize(("conv", "shape"), SHAPES, ids=str)
@pytest.mark.parametrize("leaves", [2, 4])
def test_backward_data_adds_its_feature_leaves_as_a_tree(conv: Conv2d, shape: Shape, leaves: int) -> None:
    """Each leaf has the bits of a layer that has only the leaf's output channels."""
    given = harness.problem(conv, (shape,), 3)
    whole = harness.run(replace(conv, feature_leaves=leaves), given, threads=2)
    partial, each = [], conv.out_channels // leaves
    for first in range(0, conv.out_channels, each):
        rows = slice(first, first + each)
        parameters = {name: value[rows] for name, value in given.parameters.items()}
        leaf = replace(given, parameters=parameters, dys=(given.dys[0][:, rows],))
        partial.append(harness.run(replace(conv, out_channels=each), leaf).dx[0].plain())
    np.testing.assert_array_equal(whole.dx[0].plain(), _tree(partial))
    assert (whole.dx[0].beside_rows() == harness.GUARD_VALUE).all()


@pytest.mark.parametrize(("conv", "shape"), SHAPES, ids=str)
@pytest.mark.parametrize("behind", ["nothing", "relu", "relu and pool"])
@pytest.mark.parametrize(("leaves", "parts"), [(2, 2), (4, 2), (4, 4)])
def test_shards_have_the_bits_of_the_whole_layer(
    conv: Conv2d, shape: Shape, behind: str, leaves: int, parts: int
) -> None:
    conv = replace(conv, feature_leaves=leaves)
    layer: Layer = {"nothing": conv, "relu": Conv2dReLU(conv), "relu and pool": Conv2dReLUPool(conv)}[behind]
    given = harness.problem(layer, (shape,), 4)
    whole = harness.run(layer, given, leaves=2)
    partial, each = [], conv.out_channels // parts
    shards = layer.shard(parts)
    assert len(shards) == parts
    for part, shard in enumerate(shards):
        rows = slice(part * each, (part + 1) * each)
        parameters = {name: value[rows] for name, value in given.parameters.items()}
        mine = replace(given, parameters=parameters, dys=(given.dys[0][:, rows],))
        made = harness.run(shard, mine, leaves=2)
        np.testing.assert_array_equal(made.y[0].plain(), whole.y[0].plain()[:, rows])
        for name, gradient in made.gradients.items():
            np.testing.assert_array_equal(gradient, whole.gradients[name][rows], err_msg=name)
        partial.append(made.dx[0].plain())
    np.testing.assert_array_equal(_tree(partial), whole.dx[0].plain())


@pytest.mark.parametrize("kind", [lambda conv: conv, Conv2dReLU, Conv2dReLUPool])
@pytest.mark.parametrize(
    ("feature_leaves", "parts", "message"),
    [
        (1, 2, "conv_feature_leaves=1 is less than the 2 parts; must be at least 2"),
        (2, 4, "conv_feature_leaves=2 is less than the 4 parts; must be at least 4"),
        (
            8,
            8,
            f"out_channels={4 * LANES} has no 8 runs of whole vectors of {LANES} channels; .* two up to 4",
        ),
    ],
)
def test_a_layer_refuses_more_parts_than_it_has_feature_leaves(kind, feature_leaves, parts, message) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        kind(Conv2d(4 * LANES, 3, feature_leaves=feature_leaves)).shard(parts)


@pytest.mark.parametrize(
    ("rows", "per_group", "groups"), [(1, 2, 4), (4, 2, 3), (2, 1, 5), (6, 2, 2), (14, 2, 8)]
)
def test_short_rows_take_several_groups_of_weights_that_fit_the_registers(
    rows: int, per_group: int, groups: int
) -> None:
    together = groups_together(rows, per_group, groups)
    assert groups % together == 0
    assert together == 1 or (rows + 1) * per_group * together <= (TILE_ROWS + 1) * MOST_VECTORS
    assert together == 1 or rows <= MOST_SHORT
    assert groups_together(rows, per_group, 1) == 1


def test_several_groups_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    for conv, shape in (
        (Conv2d(12 * LANES, 3, padding=1, algorithm="direct"), (8 * LANES, 4, 4)),
        (Conv2d(5 * LANES, 3, stride=2, padding=1), (3 * LANES, 5, 3)),
    ):
        given = harness.problem(conv, (shape,), 3)
        several = harness.run(conv, given, threads=2)
        monkeypatch.setattr(conv_direct, "groups_together", lambda *_, **__: 1)
        one = harness.run(conv, given)
        monkeypatch.undo()
        np.testing.assert_array_equal(several.y[0].plain(), one.y[0].plain())
        np.testing.assert_array_equal(several.dx[0].plain(), one.dx[0].plain())
