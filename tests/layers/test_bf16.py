"""Rounding to bf16, against whole numbers in Python."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from layers.kernels import bf16, threads
from layers.kernels.target import AVX512, TARGET
from tests.layers import harness

Array = NDArray[Any]
LARGEST = 2**127 * (2 - Fraction(1, 128))  # of bf16


@pytest.fixture(autouse=True)
def _workers_get_even_little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "INLINE_WORK", 0)


def _nearest(value: float) -> float:
    """Return the bf16 nearest to a finite float32, of two the one with an even last bit."""
    exact = Fraction(value)
    exponent = max(-126, math.frexp(value)[1] - 1)
    unit = Fraction(2) ** (exponent - 7)
    rounded = round(exact / unit) * unit  # ties to even
    if abs(rounded) > LARGEST:
        return math.copysign(math.inf, value)
    return math.copysign(float(rounded), value)


def _values(count: int) -> Array:
    """Return any bits of float32, and those beside ties and ends of the range."""
    drawn = np.random.default_rng(0).integers(0, 2**32, count, dtype=np.uint32)
    special = [0, 0x7FFF, 0x8000, 0x8001, 0x18000, 0x7F7F7FFF, 0x7F7F8000, 0x3F808000, 0x3F818000, 0x7FFFFF]
    special += [0x7F800000, 0x7F800001, 0x7FFFFFFF, 0x7F808000]  # infinity, and NaNs
    places = np.array(special, np.uint32)
    drawn[: 2 * len(special)] = np.concatenate([places, places | np.uint32(1 << 31)])
    return drawn.view(np.float32)


@pytest.mark.parametrize("count", [45, bf16._CHUNK + 35])
def test_values_are_rounded_to_the_nearest(count: int) -> None:
    values = _values(count)
    rounded, halves = np.full(count, 7, np.float32), np.full(count, 7, np.uint16)
    bf16.round_values(harness.workers(2), values, rounded)
    bf16.to_bf16(harness.workers(2), values, halves)
    finite = np.isfinite(values)
    expected = [_nearest(float(value)) for value in values[finite]]
    np.testing.assert_array_equal(rounded[finite], np.array(expected, np.float32))
    np.testing.assert_array_equal(np.signbit(rounded), np.signbit(values))
    np.testing.assert_array_equal(rounded[np.isinf(values)], values[np.isinf(values)])
    assert np.isnan(rounded[np.isnan(values)]).all()
    assert (rounded[np.isnan(values)].view(np.uint32) & 0x400000).all()
    np.testing.assert_array_equal(halves, rounded.view(np.uint32) >> 16)
    assert not (rounded.view(np.uint32) & 0xFFFF).any()


def test_values_may_be_rounded_in_place() -> None:
    values = _values(100)
    rounded = np.empty_like(values)
    bf16.round_values(harness.workers(1), values, rounded)
    bf16.round_values(harness.workers(1), values, values)
    np.testing.assert_array_equal(values.view(np.uint32), rounded.view(np.uint32))


@pytest.mark.parametrize("borders", [(0, 0, 0, 0), (1, 2, 0, 3), (0, 0, 2, 1)])
def test_images_get_zeros_around_them(borders: tuple[int, int, int, int]) -> None:
    top, left, bottom, right = borders
    stored = np.random.default_rng(1).standard_normal((2, 3, 5, 9, 16), dtype=np.float32)
    x = stored[:, :, :, 1:7]
    target = np.full((2, 3, top + 5 + bottom, left + 6 + right, 16), np.nan, np.float32)
    bf16.round_images(harness.workers(2), x, target, top, left)
    rounded = np.empty(x.size, np.float32)
    bf16.round_values(harness.workers(1), np.ascontiguousarray(x).ravel(), rounded)
    width = ((0, 0), (0, 0), (top, bottom), (left, right), (0, 0))
    np.testing.assert_array_equal(target, np.pad(rounded.reshape(x.shape), width))


@pytest.mark.skipif(TARGET.simd != AVX512, reason="reads its assembly")
@pytest.mark.parametrize("kernel", [lambda: bf16._round(False), lambda: bf16._round(True)])
def test_whole_registers_are_rounded_at_once(kernel: Callable[[], Any]) -> None:
    lines = harness.assembly(kernel()).splitlines()
    assert any("vpaddd" in line and "%zmm" in line for line in lines)
