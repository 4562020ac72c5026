"""Products of bf16: whatever makes them, a layer has the same bits."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from layers.conv2d import Conv2d
from layers.fused_conv2d import Conv2dReLU, Conv2dReLUPool
from layers.layer import Layer, Shape
from layers.linear import Linear
from layers.precision import BF16
from layers.products import Unit, unit_of_process
from tests.layers import harness
from tests.layers.bf16_model import rounded
from tests.layers.test_paired import CONVOLUTIONS, FULLY_CONNECTED, LEAVES, SAMPLES

Case = tuple[Layer, Shape, int, int]
"""Layer, shape of x, samples, leaves."""

LONG_ROWS = Conv2d(16, 3, padding=1), (16, 5, 37)
IN_LEAVES = Conv2d(128, 3, padding=1, feature_leaves=4), (20, 5, 6)
CASES: list[Case] = [
    *((conv, shape, SAMPLES, LEAVES) for conv, shape in (*CONVOLUTIONS, LONG_ROWS, IN_LEAVES)),
    (Conv2d(96, 3, feature_leaves=2).shard(2)[1], (20, 5, 6), SAMPLES, LEAVES),
    (Conv2d(16, 3, padding=1), (16, 182, 182), 1, 1),  # a leaf in two runs
    *((linear, (features,), samples, leaves) for linear, features, samples, leaves in FULLY_CONNECTED),
    (Linear(512).shard(2)[1], (40,), 6, 2),
    (Conv2dReLU(Conv2d(40, 3, padding=1)), (33, 5, 18), SAMPLES, LEAVES),
    (Conv2dReLUPool(Conv2d(40, 3, padding=1)), (33, 5, 19), SAMPLES, LEAVES),
    (Conv2dReLUPool(Conv2d(32, 5, padding=2, bias=False)), (3, 9, 34), SAMPLES, LEAVES),
]


@pytest.mark.parametrize("scale", [1.0, 1e-19])  # with sums on both sides of the smallest normal number
@pytest.mark.parametrize(("layer", "shape", "samples", "leaves"), CASES, ids=str)
def test_units_make_the_same_bits(
    layer: Layer, shape: Shape, samples: int, leaves: int, scale: float
) -> None:
    given = harness.problem(layer, (shape,), samples)
    given = replace(
        given,
        inputs=tuple(_rounded(scale * x) for x in given.inputs),
        dys=tuple(_rounded(scale * dy) for dy in given.dys),
        parameters={name: scale * values for name, values in given.parameters.items()},
    )
    one, other = (
        harness.run(_with(layer, unit), given, leaves=leaves, threads=2)
        for unit in (Unit.REGISTERS, Unit.SOFTWARE)
    )
    assert one.gradients.keys() == other.gradients.keys()
    for mine, its in (
        (one.y[0].plain(), other.y[0].plain()),
        (one.dx[0].plain(), other.dx[0].plain()),
        *((values, other.gradients[name]) for name, values in one.gradients.items()),
    ):
        assert mine.any()
        np.testing.assert_array_equal(mine.view(np.uint32), its.view(np.uint32))


@pytest.mark.parametrize("unit", [Unit.REGISTERS, Unit.SOFTWARE])
@pytest.mark.parametrize(
    ("layer", "shape"), [(Linear(48), (40,)), (Conv2d(16, 3, padding=1), (20, 5, 6))], ids=str
)
def test_sums_of_leaves_are_added_as_ranks_add_them(layer: Layer, shape: Shape, unit: Unit) -> None:
    """Subnormal numbers are zeros inside of a leaf only."""
    given = harness.problem(layer, (shape,), 4)
    tiny = (tuple(_rounded(2.0**-63 * values) for values in each) for each in (given.inputs, given.dys))
    whole = replace(given, **dict(zip(("inputs", "dys"), tiny, strict=True)))
    halves = (
        replace(
            whole,
            inputs=(whole.inputs[0][each],),
            dys=(whole.dys[0][each],),
            samples=whole.samples[each],
        )
        for each in (slice(2), slice(2, 4))
    )
    together = harness.run(_with(layer, unit), whole, leaves=2).gradients["weight"]
    one, other = (harness.run(_with(layer, unit), half).gradients["weight"] for half in halves)
    np.testing.assert_array_equal(together, one + other)
    smallest = np.finfo(np.float32).tiny
    assert np.logical_and(together != 0, np.abs(together) < smallest).any()


@pytest.mark.parametrize("unit", [Unit.REGISTERS, Unit.SOFTWARE])
def test_sums_of_feature_leaves_are_added_as_ranks_add_them(unit: Unit) -> None:
    linear, features = Linear(64, leaf=32), 40
    given = harness.problem(linear, ((features,),), 6)
    dy = _rounded(2.0**-125 * given.dys[0])
    dxs = [
        harness.run(
            _with(layer, unit),
            replace(
                given,
                dys=(dy[:, outputs],),
                parameters={name: values[outputs] for name, values in given.parameters.items()},
            ),
        )
        .dx[0]
        .plain()
        for layer, outputs in (
            (linear, slice(None)),
            *((shard, slice(32 * part, 32 * part + 32)) for part, shard in enumerate(linear.shard(2))),
        )
    ]
    np.testing.assert_array_equal(dxs[0], dxs[1] + dxs[2])
    assert np.logical_and(dxs[0] != 0, np.abs(dxs[0]) < np.finfo(np.float32).tiny).any()


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return rounded(values.astype(np.float32)).astype(np.float64)


def _with(layer: Any, unit: Unit) -> Layer:
    if isinstance(layer, (Conv2dReLU, Conv2dReLUPool)):
        return layer.around(_with(layer.conv, unit))
    changed: Layer = replace(layer, precision=BF16, unit=unit)
    return changed


def test_a_process_uses_the_tiles_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for has, unit in ((True, Unit.HARDWARE), (False, Unit.REGISTERS)):
        monkeypatch.setattr("layers.products.has_tiles", lambda has=has: has)
        assert unit_of_process() is unit


def test_units_are_no_part_of_what_a_layer_says_of_itself() -> None:
    for layer in (Conv2d(16, 3), Linear(16)):
        assert repr(_with(layer, Unit.SOFTWARE)) == repr(_with(layer, Unit.REGISTERS))
