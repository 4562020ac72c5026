"""The arithmetic of products of bf16, written down in numpy: small sizes only.

Two float64 hold the exact sum of a product and a number; the upper one is made odd in its last bit where the
lower is not zero, so that rounding it to float32 is right at ties too ("round to odd").
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Wide = NDArray[np.float64]

SMALLEST = 2.0**-126
"""Of the normal numbers."""
TERMS = 32


def flushed(x: Array) -> Array:
    """Return x with zeros, of their signs, for what is below the smallest normal number."""
    return np.where(np.abs(x) < SMALLEST, np.copysign(np.float32(0), x), x)


def fused(a: Array, b: Array, c: Array) -> Array:
    """Return a * b + c of values of bf16 and float32, rounded once, subnormal numbers as zeros."""
    a, b, c = (flushed(np.asarray(x, np.float32)) for x in (a, b, c))
    return _rounded_sum(a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64))


def added(a: Array, b: Array) -> Array:
    """Return a + b, subnormal numbers as zeros."""
    return _rounded_sum(flushed(a).astype(np.float64), flushed(b).astype(np.float64))


def _rounded_sum(p: Wide, c: Wide) -> Array:
    p, c = np.broadcast_arrays(p, c)
    with np.errstate(all="ignore"):
        total = p + c
        back = total - p
        error = (p - (total - back)) + (c - back)
        inexact = np.isfinite(total) & (error != 0)
        even = (total.view(np.uint64) & np.uint64(1)) == 0
        towards = np.where(error > 0, np.inf, -np.inf)
        total = np.where(inexact & even, np.nextafter(total, towards), total)
        # What is too small is decided after rounding to 24 bits: far from the end of the exponents.
        tiny = np.abs(total) < 2 * SMALLEST
        scaled = np.where(tiny, total * 2.0**64, total).astype(np.float32)
        below = tiny & (np.abs(scaled) < np.float32(SMALLEST * 2.0**64))
        normal = np.where(tiny, (scaled.astype(np.float64) * 2.0**-64).astype(np.float32), scaled)
        return np.where(below, np.copysign(np.float32(0), scaled), normal).astype(np.float32)


def product(start: Array, a: Array, b: Array) -> Array:
    """Return start + a b: blocks of 32 terms in order, the last filled with zeros.

    Parameters
    ----------
    start : float32, broadcast to [M, N]
    a : float32 [M, T]
        Values of bf16, like b.
    b : float32 [T, N]
    """
    terms = a.shape[1]
    total = np.broadcast_to(np.asarray(start, np.float32), (len(a), b.shape[1]))
    filled = -terms % TERMS
    a, b = np.pad(a, ((0, 0), (0, filled))), np.pad(b, ((0, filled), (0, 0)))
    for first in range(0, terms, TERMS):
        even = odd = np.zeros_like(total)
        for k in range(first, first + TERMS, 2):
            even = fused(a[:, k, None], b[k], even)
            odd = fused(a[:, k + 1, None], b[k + 1], odd)
        total = added(total, added(even, odd))
    return total


def rounded(x: Array) -> Array:
    """Return finite numbers rounded to bf16."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def tree(parts: list[Array]) -> Array:
    """Return the sum of a power of two of arrays as a balanced tree, subnormal numbers as they are."""
    while len(parts) > 1:
        parts = [left + right for left, right in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]
