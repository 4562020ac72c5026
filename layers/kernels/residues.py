"""Which positions of a kernel meet which inputs, along one axis of a strided, dilated convolution.

An input h meets output i at kernel position u where ``i * stride + u * dilation == h + padding``: those u
depend on the residue of ``h + padding`` modulo the stride. From one to the next u grows, and i falls.
"""

from functools import lru_cache
from math import gcd

NEVER = 1 << 20
"""Stands for the first position where there is none: no kernel reaches so far."""


def step_and_fall(stride: int, dilation: int) -> tuple[int, int]:
    """Return by how much u grows, and i falls, from one meeting to the next."""
    common = gcd(stride, dilation)
    return stride // common, dilation // common


@lru_cache
def first_positions(stride: int, dilation: int) -> tuple[int, ...]:
    """Return the first u of each residue, or NEVER."""
    step, _ = step_and_fall(stride, dilation)
    return tuple(
        next((u for u in range(step) if (u * dilation - residue) % stride == 0), NEVER)
        for residue in range(stride)
    )
