"""Standard normal numbers from random words: those of numpy's generators, by arithmetic of our own.

numpy asks the C library for logarithms and exponentials, whose last bits differ from one version and CPU to
the next; here every operation is rounded as IEEE 754 says, so that all machines have the same numbers.
"""

import math
from functools import lru_cache

import numpy as np
from numba import float32, float64, int64, uint32

from layers.kernels.jit import inline, kernel

LAYERS = 256
_R = 3.6541528853610088  # where the tail begins
_AREA = 4.928673233974655e-3  # of each layer, the lowest with the tail: r exp(-r²/2) + the integral from r on
_MOST = float(1 << 23)
_INVERSE_R = np.float32(1 / _R)
_ULP = np.float32(2.0**-24)
_LN2_HIGH, _LN2_LOW, _LOG2_E = 0.6931471803691238, 1.9082149292705877e-10, 1.4426950408889634
_ONE, _TWO, _HALF, _TWO_THIRDS = np.float32(1), np.float32(2), np.float32(0.5), np.float32(2 / 3)
_NEAR, _ROOT = np.array([0x3E95F61F, 0x3FB504F7], np.uint32).view(np.float32)  # about 1 - sqrt(1/2), sqrt(2)
_TINY = np.float32(2.0**-20)
_LN2_HIGH_F, _LN2_LOW_F = np.float32(6.9313812256e-01), np.float32(9.0580006145e-06)
_L1, _L2, _L3, _L4, _L5, _L6, _L7 = (
    np.float32(c)
    for c in (
        6.6666668653e-01, 4.0000000596e-01, 2.8571429849e-01, 2.2222198546e-01, 1.8183572590e-01,
        1.5313838422e-01, 1.4798198640e-01,
    )
)  # fmt: skip
_TERMS_OF_LOG, _TERMS_OF_EXP = 13, 16  # the next ones are below 2**-60


def fill(words, numbers) -> tuple[int, int]:
    """Fill `numbers` (float32 [n]) from uint32 words in order; return how many of both have been used.

    One word makes a number, or a few do: the ziggurat of Marsaglia and Tsang 2000 (J. Stat. Softw. 5, 8) with
    256 layers, read off the words as numpy's `Generator.standard_normal` does. Words that do not suffice for
    the next number are left.
    """
    used = np.zeros(2, np.int64)
    _fill()(0, 0, len(numbers), words, numbers, *_tables(), used)
    return int(used[0]), int(used[1])


@lru_cache(maxsize=1)
def _tables():
    """Return limits (uint32), widths and heights (float32) of the layers, the lowest one first."""
    limits, widths = np.zeros(LAYERS, np.uint32), np.zeros(LAYERS, np.float32)
    heights = np.zeros(LAYERS, np.float32)
    x, height = _R, _exp.py_func(-0.5 * _R * _R)
    base = _AREA / height
    limits[0], widths[0], heights[0] = round(x / base * _MOST), base / _MOST, 1
    widths[-1], heights[-1] = x / _MOST, height
    for layer in range(LAYERS - 2, 0, -1):
        above = math.sqrt(-2 * _log(_AREA / x + height))
        limits[layer + 1] = round(above / x * _MOST)
        x, height = above, _exp.py_func(-0.5 * above * above)
        widths[layer], heights[layer] = x / _MOST, height
    return limits, widths, heights


@lru_cache(maxsize=1)
def _fill():
    @kernel(
        int64, int64, int64, uint32[::1], float32[::1], uint32[::1], float32[::1], float32[::1], int64[::1]
    )  # fmt: skip
    def standard_normal(worker, first, last, words, numbers, limits, widths, heights, used):
        at, index = 0, first
        while index < last and at < len(words):
            word = words[at]
            layer, size = int64(word & uint32(0xFF)), word >> uint32(9)
            x = float32(size) * widths[layer]
            if word & uint32(0x100):
                x = -x
            if size < limits[layer]:
                numbers[index] = x
                index, at = index + 1, at + 1
                continue
            if layer:  # the edge of a layer
                if at + 1 >= len(words):
                    break
                height = (heights[layer - 1] - heights[layer]) * _uniform(words[at + 1]) + heights[layer]
                at += 2
                if float64(height) < _exp(-0.5 * float64(x) * float64(x)):
                    numbers[index] = x
                    index += 1
                continue
            pair, found = at + 1, False
            while not found and pair + 1 < len(words):  # the tail
                beyond = _INVERSE_R * -_log_without(_uniform(words[pair]))
                other = -_log_without(_uniform(words[pair + 1]))
                pair += 2
                found = other + other > beyond * beyond
            if not found:
                break
            number = float32(_R) + beyond
            numbers[index] = -number if (size >> uint32(8)) & uint32(1) else number
            index, at = index + 1, pair
        used[0], used[1] = at, index

    return standard_normal


@inline
def _uniform(word):
    """Return a number in [0, 1), float32, of the upper 24 bits."""
    return float32(word >> uint32(8)) * _ULP


@inline
def _log_without(u):
    """Return log(1 - u), float32, for a multiple u of 2**-24 from 0 to below 1.

    Step by step as in Sun's fdlibm (log1pf, 1993), whose result many C libraries have had for long: so runs
    of earlier versions keep their bits. Seven of a hundred results are not the nearest float.
    """
    halvings, f = 0, -u
    if u > _NEAR:
        rest = _ONE - u
        while rest < _ONE:
            rest, halvings = rest * _TWO, halvings + 1
        if rest >= _ROOT:
            rest, halvings = rest * _HALF, halvings - 1
        f = rest - _ONE
    k, square = float32(-halvings), _HALF * f * f
    if u > _NEAR and abs(f) < _TINY:
        remainder = square * (_ONE - _TWO_THIRDS * f)
        return k * _LN2_HIGH_F - ((remainder - k * _LN2_LOW_F) - f)
    s = f / (_TWO + f)
    z = s * s
    r = z * (_L1 + z * (_L2 + z * (_L3 + z * (_L4 + z * (_L5 + z * (_L6 + z * _L7))))))
    if halvings == 0:
        return f - (square - s * (square + r))
    return k * _LN2_HIGH_F - ((square - (s * (square + r) + k * _LN2_LOW_F)) - f)


def _log(x):
    """Return the logarithm of 0 < x <= 1, within 2 units of the last place of 1.

    `logarithm.log` is for kernels, and this for tables that are made without one.
    """
    halvings = 0
    while x < 0.7071067811865476:
        x, halvings = 2 * x, halvings + 1
    s = (x - 1) / (x + 1)
    total = 0.0
    for term in range(_TERMS_OF_LOG - 1, -1, -1):
        total = total * (s * s) + 1 / (2 * term + 1)
    return (2 * s * total - halvings * _LN2_LOW) - halvings * _LN2_HIGH


@inline
def _exp(x):
    """Return the exponential of -700 < x <= 0, float64, within 2 units of the last place."""
    halvings = int(0.5 - x * _LOG2_E)
    r = (x + halvings * _LN2_HIGH) + halvings * _LN2_LOW
    total = 1.0
    for term in range(_TERMS_OF_EXP, 0, -1):
        total = 1 + total * r / term
    for _ in range(halvings):
        total *= 0.5
    return total
