"""Sums of squares without rounding: whole numbers, which are the same in any order and any cut."""

from functools import lru_cache

import numpy as np
from numba import int64, uint32
from numpy.typing import NDArray

from layers.kernels.jit import kernel

LIMBS = 20
"""Of a sum: digits to the base 2**32, the lowest first, and last whether a value was not finite."""

Limbs = NDArray[np.int64]

_LOWEST = 298  # the square of the smallest float32 is 2**-298
_ROWS = 4  # of bins, used in turn: an add to a bin need not wait for the one before it
_PIECE = _ROWS << 15  # so many squares of 48 bits fit into the bins
_EXPONENTS = 256
_DIGIT = (1 << 32) - 1


def add_squares(values, limbs) -> None:
    """Add the squares of contiguous float32 values to a sum, int64 [LIMBS], without rounding.

    A float32 is a whole number of 24 bits times a power of two. Squares of these numbers are added up in one
    bin for each exponent, and the bins then to the sum, with carries.
    """
    bits = values.view(np.uint32)
    bins = np.zeros((_ROWS, _EXPONENTS), np.int64)
    for start in range(0, len(bits), _PIECE):
        _add()(0, start, min(start + _PIECE, len(bits)), bits, bins, limbs)


def rounded_sum(limbs: Limbs) -> float:
    """Return the float64 nearest to a sum, or to several added up limb by limb; NaN if not finite."""
    if limbs[-1]:
        return float("nan")
    total = sum(int(limb) << 32 * place for place, limb in enumerate(limbs[:-1]))
    return total / (1 << _LOWEST)


@lru_cache(maxsize=1)
def _add():
    @kernel(int64, int64, int64, uint32[::1], int64[:, ::1], int64[::1])
    def add_exact_squares(worker, first, last, bits, bins, limbs):
        for i in range(first, last):
            value = int64(bits[i])
            exponent = (value >> 23) & 255
            whole = value & 0x7FFFFF
            if exponent > 0:
                whole += 0x800000
            bins[i & (_ROWS - 1), exponent] += whole * whole
        for row in range(_ROWS):
            for exponent in range(_EXPONENTS - 1):
                value = bins[row, exponent]
                if value != 0:
                    bins[row, exponent] = 0
                    shift = 2 * (max(exponent, 1) - 1)
                    place, shift = shift >> 5, shift & 31
                    low, high = (value & _DIGIT) << shift, (value >> 32) << shift
                    limbs[place] += low & _DIGIT
                    limbs[place + 1] += (low >> 32) + (high & _DIGIT)
                    limbs[place + 2] += high >> 32
            if bins[row, _EXPONENTS - 1] != 0:  # that of infinity and NaN
                limbs[LIMBS - 1] = 1
            bins[row, _EXPONENTS - 1] = 0
        for place in range(LIMBS - 2):
            limbs[place + 1] += limbs[place] >> 32
            limbs[place] &= _DIGIT

    return add_exact_squares
