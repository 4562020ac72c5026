# ruff: noqa: ARG001 -- the arguments of kernels have fixed places
"""A kernel in several variants: functions of one name that hold other values."""

from collections.abc import Callable
from functools import lru_cache

from numba import int64

from layers.kernels.jit import kernel


@lru_cache
def fill(value: int) -> Callable[..., None]:
    """Return a kernel that writes one value."""

    @kernel(int64, int64, int64, int64[::1])
    def fill_with(worker, first, last, x):
        for task in range(first, last):
            x[task] = value

    return fill_with
