"""Tiles are used only where the target, the system and a product allow it."""

import logging

import numpy as np
import pytest
from numpy.typing import NDArray

from layers.kernels import tile_host
from layers.kernels.tile_unit import HARDWARE, MEMORY_FLOATS, SOFTWARE, TileUnit
from tests.layers import bf16_model

FEATURES = "+avx512f,+amx-tile,+amx-bf16,-amx-fp16"


def _answers(*, permitted: bool = True, agree: bool = True, features: str = FEATURES) -> bool:
    def product(unit: TileUnit) -> bool:
        assert unit == HARDWARE
        return agree

    return tile_host.usable(features, lambda: permitted, product)


def test_tiles_are_used_where_all_agree() -> None:
    assert _answers()


@pytest.mark.parametrize("features", ["", "+avx512f", "+amx-tile", "+amx-bf16", "+amx-tile,-amx-bf16"])
def test_a_target_without_the_instructions_uses_none(features: str) -> None:
    assert not _answers(features=features)


def test_a_system_that_gives_no_room_is_asked_nothing_else() -> None:
    assert not tile_host.usable(FEATURES, lambda: False, lambda unit: pytest.fail(str(unit)))


def test_other_bits_are_said_once_and_not_used(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lockstep.kernels"):
        assert not _answers(agree=False)
    (record,) = caplog.records
    assert record.getMessage() == (
        "warning: this processor's tiles round otherwise than others: computing without them"
    )


def test_the_comparison_agrees_with_itself() -> None:
    assert tile_host.agrees(SOFTWARE)


def test_the_comparison_tells_flushed_numbers_and_the_order_of_terms() -> None:
    a, b, c = tile_host.operands()
    computed, kinds = c.copy(), [slice(kind, None, 3) for kind in range(3)]
    memory = np.zeros(MEMORY_FLOATS, np.float32)
    tile_host.add_products(SOFTWARE)(0, 0, len(c), memory, a, b, computed)
    rows = _values(a).reshape(-1, 16, 32)
    columns = _values(b).reshape(-1, 16, 16, 2).transpose(0, 1, 3, 2).reshape(-1, 32, 16)
    kept = (c.astype(np.float64) + (rows @ columns).reshape(c.shape)).astype(np.float32)
    expected = [
        bf16_model.product(start.reshape(16, 16), *factors).ravel()
        for start, *factors in zip(c, rows.astype(np.float32), columns.astype(np.float32), strict=True)
    ]
    np.testing.assert_array_equal(computed, expected)
    assert all((computed[kind] != kept[kind]).mean() > 0.1 for kind in kinds)
    assert (np.abs(kept[kinds[1]]) < 2.0**-126).any()
    assert (np.abs(kept[kinds[2]]) > 2.0**-100).any()


def _values(halves: NDArray[np.uint16]) -> NDArray[np.float64]:
    return (halves.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
