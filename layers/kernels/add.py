"""Sums and copies of whole activations, in one pass over memory."""

from functools import lru_cache
from typing import Any

from numba import float32, int64, types

from layers.arithmetic import ceil_div
from layers.kernels.jit import kernel
from layers.kernels.rows import IMAGE, as_rows, copy_row, floats, row_address
from layers.kernels.simd import LANES, add_vectors
from layers.kernels.threads import Threads

FLAT = float32[::1]
_ROW = 1 << 12  # floats of a flat array that are a task


def add_all(threads: Threads, sources: tuple[Any, ...], target) -> None:
    """Write target = ((sources[0] + sources[1]) + sources[2]) + ...; images or vectors.

    A single source is copied, unless it is the target already.
    """
    target = as_rows(target)
    sources = tuple(as_rows(source) for source in sources)
    tasks, work = target.shape[0] * target.shape[1], target.size * len(sources)
    threads.run(_add_all(len(sources)), tasks, work, sources, target)


def add_flat(threads: Threads, total, addend) -> None:
    """Write total += addend, element by element; both float32 [n], n a multiple of LANES."""
    threads.run(_add_flat(), ceil_div(total.size, _ROW), 2 * total.size, total, addend)


def tree_add(threads: Threads, slots: list[Any], top: int, leaf: int) -> int:
    """Add what became complete with `leaf`, whose partial value lies in slot `top`; return the next slot.

    As `leaves.tree_add` does with blocks, with whole values: `leaves.stack_depth` slots, the total in slot 0.
    """
    done = leaf + 1
    while done % 2 == 0:
        top, done = top - 1, done // 2
        add_all(threads, (slots[top], slots[top + 1]), slots[top])
    return top + 1


@lru_cache
def _add_all(COUNT):
    @kernel(int64, int64, int64, types.UniTuple(IMAGE, COUNT), IMAGE)
    def add_rows(worker, first, last, sources, target):
        count = target.shape[3] * LANES
        for task in range(first, last):
            n, block = divmod(task, target.shape[1])
            for i in range(target.shape[2]):
                at = row_address(target, n, block, i)
                copy_row(at, row_address(sources[0], n, block, i), count)
                row = floats(at)
                for s in range(1, COUNT):
                    term = floats(row_address(sources[s], n, block, i))
                    for e in range(count):
                        row[e] += term[e]

    return add_rows


@lru_cache(maxsize=1)
def _add_flat():
    @kernel(int64, int64, int64, FLAT, FLAT)
    def add_flat_rows(worker, first, last, total, addend):
        for task in range(first, last):
            start = task * _ROW
            count = min(_ROW, total.size - start)
            add_vectors(total.ctypes.data + 4 * start, addend.ctypes.data + 4 * start, count // LANES)

    return add_flat_rows
