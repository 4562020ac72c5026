"""The model of products of bf16, against fractions."""

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.layers import bf16_model

Array = NDArray[np.float32]


def _rounded(exact: Fraction, sign_of_zero: float) -> np.float32:
    """Return the nearest float32, or zero where 24 bits of it are below the normal numbers."""
    if exact == 0:
        return np.float32(sign_of_zero)
    exponent = 0
    while abs(exact) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while abs(exact) < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (exponent - 23)
    nearest = round(exact / unit) * unit
    if abs(nearest) < Fraction(2) ** -126:
        return np.float32(0.0 if exact > 0 else -0.0)
    if abs(nearest) >= Fraction(2) ** 128:
        return np.float32(np.inf if exact > 0 else -np.inf)
    return np.float32(float(nearest))


def _exact(values: Array) -> list[Fraction]:
    return [Fraction(float(value)) for value in bf16_model.flushed(values)]


def _operands(exponents: tuple[int, int], apart: int) -> tuple[Array, Array, Array]:
    """Return factors of bf16 with exponents in a range, and what is to be added: near their product."""
    generator = np.random.default_rng(3)

    def drawn(count: int) -> Array:
        mantissa = generator.integers(128, 256, count) * generator.choice([-1, 1], count)
        powers = generator.integers(*exponents, count, endpoint=True)
        return np.ldexp(mantissa.astype(np.float64), powers - 7).astype(np.float32)

    a, b = drawn(999), drawn(999)
    product = a.astype(np.float64) * b
    other = product * 2.0 ** generator.integers(-apart, apart, 999, endpoint=True)
    other *= generator.uniform(-1, 1, 999)
    other[::3] = np.ldexp(np.sign(other), np.frexp(other)[1])[::3]  # powers of two make ties
    other[1::3] = -product[1::3]  # exact cancellation
    largest = np.finfo(np.float32).max
    return a, b, np.clip(other, -largest, largest).astype(np.float32)


@pytest.mark.parametrize("exponents", [(-3, 3), (-68, -58), (-140, -1), (60, 63)])
@pytest.mark.parametrize("apart", [2, 30])
def test_a_sum_of_products_is_rounded_once(exponents: tuple[int, int], apart: int) -> None:
    a, b, c = _operands(exponents, apart)
    found = bf16_model.fused(a, b, c)
    expected = [
        _rounded(x * y + z, 0.0 if x * y + z == 0 and x * y != 0 else found[at])
        for at, (x, y, z) in enumerate(zip(_exact(a), _exact(b), _exact(c), strict=True))
    ]
    np.testing.assert_array_equal(found.view(np.uint32), np.array(expected, np.float32).view(np.uint32))
    sums = bf16_model.added(a, c)
    expected = [_rounded(x + z, sums[at]) for at, (x, z) in enumerate(zip(_exact(a), _exact(c), strict=True))]
    np.testing.assert_array_equal(sums.view(np.uint32), np.array(expected, np.float32).view(np.uint32))


def test_a_number_just_below_the_normal_ones_is_flushed_after_rounding() -> None:
    smallest = np.float32(2.0**-126)
    below = np.array([-(2.0**-151), -(2.0**-150)], np.float64)  # added exactly: a product
    a = np.ldexp(np.float32(-1), [-75, -75]).astype(np.float32)
    b = np.ldexp(np.float32(1), [-76, -75]).astype(np.float32)
    assert (a.astype(np.float64) * b == below).all()
    found = bf16_model.fused(a, b, np.full(2, smallest))
    assert found.tolist() == [smallest, 0]


def test_terms_are_added_in_two_chains_a_block() -> None:
    a = np.zeros((1, 40), np.float32)
    a[0, :4] = [1, 1, 2.0**-24, -1]  # even: 1 + 2^-24 = 1; odd: 1 - 1
    a[0, 32] = 2.0**-23
    found = bf16_model.product(np.float32(0), a, np.ones((40, 1), np.float32))
    assert found.tolist() == [[1 + 2.0**-23]]
