"""Powers and cosines, rounded once: the C library's differ in their last bits between versions and CPUs."""

from fractions import Fraction

_BITS = 128  # behind the point of fixed-point numbers
_ONE = 1 << _BITS


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
