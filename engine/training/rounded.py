"""Powers and cosines, rounded once: the C library's differ in their last bits between versions and CPUs."""

from fractions import Fraction

_BITS = 128  # behind the point of fixed-point numbers
_ONE = 1 << _BITS
_LONG_BITS = 256  # where errors add up over a run's steps


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
