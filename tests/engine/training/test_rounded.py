"""Powers and cosines that are rounded once."""

import math
import random
from fractions import Fraction

import pytest

from engine.training.rounded import cosine, one_minus_power, power


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


def test_powers_of_late_steps_take_no_time_and_vanish():
    assert one_minus_power(0.999, 10**12) == 1.0
    assert one_minus_power(1 - 2**-40, 2**40) == pytest.approx(1 - math.exp(-1), rel=1e-12)
