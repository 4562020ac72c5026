"""Arrays that start on a cache line, and the memory pages behind them."""

import sys
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from layers.layer import Shape

PAGE = 4096  # bytes; no host has smaller pages


def aligned_zeros(shape: Shape, dtype: type[np.generic] = np.float32) -> NDArray[np.float32]:
    """Return zeros that start on a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def blocks(arrays: Iterable[NDArray[np.generic]], size: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the memory behind arrays of `aligned_zeros`, each byte once, in blocks of up to `size` bytes."""
    seen = set()
    for array in arrays:
        raw: NDArray[np.generic] = array
        while isinstance(raw.base, np.ndarray):
            raw = raw.base
        if id(raw) not in seen:
            seen.add(id(raw))
            content = raw.reshape(-1).view(np.uint8)
            yield from (content[start : start + size] for start in range(0, content.size, size))


def held_bytes(arrays: Iterable[NDArray[np.generic]]) -> int:
    """Return the size of the memory behind arrays of `aligned_zeros`, each byte counted once."""
    return sum(block.size for block in blocks(arrays, sys.maxsize))


def touch(block: NDArray[np.uint8]) -> None:
    """Fault in the pages of a block of zeros now, not on the first write inside a step."""
    block[::PAGE] = 0
