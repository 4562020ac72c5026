"""Logarithm and cosine from sums, products, quotients alone: the same bits on every machine.

Those of numpy and of the C library differ in their last bits between versions and processors.
"""

import math

import numpy as np
from numpy.typing import NDArray

_LN2 = 0.6931471805599453
_LOG_TERMS = 13  # of the series of artanh up to s**25, where |s| < 0.172
_COS_TERMS = 13  # of Taylor's up to x**24, where x <= pi / 2


def logarithm(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the natural logarithm of positive numbers, to about 1e-16 of its size."""
    fraction, exponent = np.frexp(x)
    small = fraction < 0.7071067811865476
    fraction = np.where(small, 2.0 * fraction, fraction)
    exponent = exponent - small
    s = (fraction - 1.0) / (fraction + 1.0)
    square = s * s
    series = np.zeros_like(s)
    for term in reversed(range(_LOG_TERMS)):
        series = series * square + 1.0 / (2 * term + 1)
    found: NDArray[np.float64] = exponent * _LN2 + 2.0 * s * series
    return found


def cosine(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosine of angles in whole turns, to about 1e-16."""
    part = np.abs(turns - np.rint(turns))  # up to half a turn: the cosine is even
    beyond = part > 0.25
    angle = 2.0 * math.pi * np.where(beyond, 0.5 - part, part)
    square = angle * angle
    series = np.zeros_like(angle)
    for term in reversed(range(_COS_TERMS)):
        series = 1.0 - series * square / ((2 * term + 1) * (2 * term + 2))
    return np.where(beyond, -series, series)


def sine(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sine of angles in whole turns, to about 1e-16."""
    return cosine(turns - 0.25)
