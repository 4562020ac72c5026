"""Whether this process may compute with Intel's tile unit: the processor, the system and one product decide.

The answer changes no bit, as SOFTWARE's sums and those of `paired_tile` are the unit's.
"""

import ctypes
import platform
import sys
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numba import float32, int64, uint16
from numpy.typing import NDArray

from layers.kernels.jit import kernel
from layers.kernels.register_tile import LOAD
from layers.kernels.shared_cache import LOG
from layers.kernels.target import TARGET
from layers.kernels.tile_block import (
    Pairs,
    TileBlock,
    TileLoop,
    Tiles,
    begin_tiles,
    end_tiles,
    multiply_tiles,
)
from layers.kernels.tile_unit import (
    HARDWARE,
    MEMORY_FLOATS,
    ROWS,
    SOFTWARE,
    TERMS,
    TileUnit,
)

_NEEDED = ("+amx-tile", "+amx-bf16")
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18
PRODUCTS = 96
"""Of the comparison."""


@lru_cache(maxsize=1)
def has_tiles() -> bool:
    """Return whether kernels may use HARDWARE; to be asked first before other threads start."""
    return usable(TARGET.features, _permitted, agrees)


def usable(features: str, permitted: Callable[[], bool], agree: Callable[[TileUnit], bool]) -> bool:
    """Return what `has_tiles` does for a target's features, the system's answer and that of a product."""
    if not set(_NEEDED) <= set(features.split(",")) or not permitted():
        return False
    if agree(HARDWARE):
        return True
    LOG.warning("warning: this processor's tiles round otherwise than others: computing without them")
    return False


def _permitted() -> bool:
    """Ask Linux for room for the tiles of all threads of this process."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    libc = ctypes.CDLL(None)
    return int(libc.syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA)) == 0


def agrees(unit: TileUnit) -> bool:
    """Return whether products of any numbers, subnormal ones among them, have the bits of SOFTWARE's."""
    a, b, c = operands()
    sums = [c.copy(), c.copy()]
    memory = np.zeros(MEMORY_FLOATS, np.float32)
    for each, total in zip((SOFTWARE, unit), sums, strict=True):
        add_products(each)(0, 0, len(c), memory, a, b, total)
    return sums[0].tobytes() == sums[1].tobytes()


def operands() -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.float32]]:
    """Return A and B of some products as bf16, [PRODUCTS, 512], and what they are added to.

    By turns their sums are ordinary, some are below the smallest normal number, and A is.
    """
    generator = np.random.default_rng(7)
    exponents = {"a": (0, -64, -130), "b": (0, -64, 60), "c": (0, -127, -127)}

    def drawn(name: str) -> NDArray[np.float32]:
        shape = (PRODUCTS, ROWS * TERMS if name != "c" else ROWS * ROWS)
        middle = np.resize(exponents[name], (PRODUCTS, 1))
        powers = middle + generator.uniform(-6, 6, shape)
        return (generator.standard_normal(shape) * 2.0**powers).astype(np.float32)

    a, b = ((drawn(name).view(np.uint32) >> 16).astype(np.uint16) for name in "ab")
    return a, b, drawn("c")


@lru_cache
def add_products(UNIT):
    """Return the kernel that adds products of A and B to C, all [PRODUCTS, ...]."""
    BLOCK = TileBlock(UNIT, 1, 1, 1, LOAD)

    @kernel(int64, int64, int64, float32[::1], uint16[:, ::1], uint16[:, ::1], float32[:, ::1])
    def tile_products(worker, first, last, memory, a, b, c):
        at = memory.ctypes.data
        begin_tiles(BLOCK, at, ROWS)
        for task in range(first, last):
            sums = Tiles((c.ctypes.data + task * c.strides[0],), 4 * ROWS, 0)
            rows = Tiles((a.ctypes.data + task * a.strides[0],), 2 * TERMS, 0)
            pairs = Pairs(b.ctypes.data + task * b.strides[0], 0)
            multiply_tiles(BLOCK, at, rows, pairs, sums, sums, (TileLoop(1, 0, 0),))
        end_tiles(BLOCK, at)

    return tile_products
