"""Powers and cosines that are rounded once."""

import math
import random
from fractions import Fraction

import pytest

from engine.training.rounded import cosine, one_minus_power, power, root_power


def test_a_cosine_is_the_c_librarys_to_the_last_place():
    rng = random.Random(1)
    for _ in range(2000):
        x = rng.random() * math.pi
        assert abs(cosine(x) - math.cos(x)) <= math.ulp(math.cos(x))  # theirs is within one unit
    assert [cosine(0.0), cosine(math.pi)] == [1.0, -1.0]
    assert cosine(math.pi / 2) == 6.123233995736766e-17, "near the zero all digits are there, too"


def test_cosines_are_the_nearest_float():
    # glibc 2.36 has the neighbour of the second one
    assert (cosine(1.0), cosine(1.767382288196929)) == (0.5403023058681398, -0.19532219435975665)


def test_a_power_is_the_nearest_float():
    rng = random.Random(1)
    for _ in range(200):
        base, exponent = rng.random() * 2, rng.randrange(12)
        exact, found = Fraction(base) ** exponent, power(base, exponent)
        for neighbour in (math.nextafter(found, 0), math.nextafter(found, 10_000)):
            assert abs(Fraction(found) - exact) <= abs(Fraction(neighbour) - exact)


@pytest.mark.parametrize(
    ("base", "exponent", "found"), [(0.0, 0, 1.0), (0.0, 3, 0.0), (0.1, 0, 1.0), (3.0, 4, 81.0)]
)
def test_powers_of_zero_and_to_zero(base, exponent, found):
    assert power(base, exponent) == found


@pytest.mark.parametrize("base", [0.0, 0.5, 0.9, 0.999, 1 - 2**-53])
def test_what_a_power_leaves_of_one_is_the_nearest_float(base):
    for exponent in (1, 2, 3, 10, 257, 1000):
        exact, found = 1 - Fraction(base) ** exponent, one_minus_power(base, exponent)
        for neighbour in (math.nextafter(found, 0), math.nextafter(found, 2)):
            assert abs(Fraction(found) - exact) <= abs(Fraction(neighbour) - exact)


@pytest.mark.parametrize("base", [1e6, 0.01, 2.0, 0.5, 1 - 2**-53, 5e-324, 1e300, 3.0, 1e-30, 0.75])
def test_a_power_by_a_fraction_is_the_nearest_float(base):
    for numerator, denominator in ((1, 2), (1, 3), (7, 99), (98, 99), (12345, 99999)):
        found = root_power(base, Fraction(numerator, denominator))
        exact = Fraction(base) ** numerator
        below, above = (Fraction(found) + Fraction(math.nextafter(found, end)) for end in (0, math.inf))
        if denominator < 1000:
            assert (below / 2) ** denominator <= exact <= (above / 2) ** denominator
        else:  # whole numbers of millions of digits otherwise
            assert found == pytest.approx(base ** (numerator / denominator), rel=1e-12)


def test_a_power_by_none_is_one_and_by_one_the_base():
    for base in (1e-30, 0.3, 1.0, 7.0):
        assert (root_power(base, Fraction(0)), root_power(base, Fraction(1))) == (1.0, base)
    assert root_power(1.0, Fraction(1, 3)) == 1.0
    assert root_power(4.0, Fraction(1, 2)) == 2.0


def test_powers_of_late_steps_take_no_time_and_vanish():
    assert one_minus_power(0.999, 10**12) == 1.0
    assert one_minus_power(1 - 2**-40, 2**40) == pytest.approx(1 - math.exp(-1), rel=1e-12)
