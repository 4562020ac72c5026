"""Powers and cosines, rounded once: the C library's differ in their last bits between versions and CPUs."""

import math
from fractions import Fraction
from functools import cache

_BITS = 128  # behind the point of fixed-point numbers
_ONE = 1 << _BITS
_LONG_BITS = 256  # where errors add up over a run's steps
_LONG_ONE = 1 << _LONG_BITS


def power(base: float, exponent: int) -> float:
    """Return base**exponent for an exponent of at least 0, the nearest float64."""
    return float(Fraction(base) ** exponent)


def cosine(x: float) -> float:
    """Return cos(x) for |x| of a few units, the nearest float64: Taylor's series in whole numbers."""
    numerator, denominator = x.as_integer_ratio()
    square = ((numerator * numerator) << _BITS) // (denominator * denominator)
    total, term, index = _ONE, _ONE, 0
    while term:
        index += 2
        term = (term * square >> _BITS) // (index * (index - 1))
        total += term if index % 4 == 0 else -term
    return total / _ONE


def one_minus_power(base: float, exponent: int) -> float:
    """Return 1 - base**exponent for 0 <= base < 1 and an exponent of at least 1, the nearest float64.

    By squaring in whole numbers of a fixed length: the exact power of a late step has millions of digits.
    """
    numerator, denominator = base.as_integer_ratio()
    square, result = (numerator << _LONG_BITS) // denominator, 1 << _LONG_BITS
    while exponent:
        if exponent & 1:
            result = result * square >> _LONG_BITS
        square, exponent = square * square >> _LONG_BITS, exponent >> 1
    return ((1 << _LONG_BITS) - result) / (1 << _LONG_BITS)


def root_power(base: float, exponent: Fraction) -> float:
    """Return base**exponent for a base above 0 and an exponent from 0 to 1, the nearest float64.

    By the logarithm and the exponential in whole numbers of a fixed length. 1 for an exponent of 0, and the
    base for one of 1.
    """
    if exponent == 1:
        return base
    mantissa, place = math.frexp(base)  # exact
    logarithm = _logarithm(Fraction(mantissa)) + place * _logarithm_of_two()
    scaled = logarithm * exponent.numerator // exponent.denominator
    doublings, rest = divmod(scaled, _logarithm_of_two())
    return float(Fraction(_exponential(rest), _LONG_ONE) * Fraction(2) ** doublings)


def _exponential(x: int) -> int:
    """Return e**x for 0 <= x < 1, Taylor's series."""
    total, term, index = _LONG_ONE, _LONG_ONE, 0
    while term:
        index += 1
        term = (term * x >> _LONG_BITS) // index
        total += term
    return total


def _logarithm(x: Fraction) -> int:
    """Return ln(x) for 1/2 <= x <= 2: twice the series of artanh((x - 1) / (x + 1))."""
    ratio = (x - 1) / (x + 1)
    term = abs(ratio.numerator) * _LONG_ONE // ratio.denominator
    square, total, index = term * term >> _LONG_BITS, 0, 1
    while term:
        total += term // index
        term, index = term * square >> _LONG_BITS, index + 2
    return 2 * total if ratio >= 0 else -2 * total


@cache
def _logarithm_of_two() -> int:
    return _logarithm(Fraction(2))
