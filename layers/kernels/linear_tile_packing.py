"""Matrices of a fully connected layer as tiles of bf16, of A or B, in the order in which products read them.

What is packed is [tile][block of 32 terms], a tile in each kilobyte. Terms lie side by side in memory, or
rows (columns) do: two kernels, of which each makes tiles of A and of B, as a tile can be turned round.
"""

from functools import lru_cache

from numba import float32, int64

from layers.arithmetic import ceil_div
from layers.kernels.jit import kernel
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads
from layers.kernels.tile_packing import LINE, pack_pairs, pack_pixels, turn_tile
from layers.kernels.tile_sums import VECTOR_BYTES
from layers.kernels.tile_unit import TERMS, TILE_BYTES

FLOATS, MEMORY = float32[::1], float32[:, ::1]


def pack_rows(threads: Threads, x, packed, memory, rows: int) -> None:
    """Write tiles of A: `rows` samples each, of the last one those that are there; terms are features.

    Parameters
    ----------
    x : float32 [N, F]
    packed : float32
        Flat, large enough.
    memory : float32, a row of MEMORY_FLOATS or more a thread
        Working memory.
    """
    halves = x.shape[1] // LANES
    threads.run(
        _side_by_side(False), ceil_div(len(x), rows), x.size, x.reshape(-1), packed, memory,
        rows, len(x), x.strides[0], halves, halves, 0,
    )  # fmt: skip


def pack_turned_columns(threads: Threads, weight, packed, memory) -> None:
    """Write tiles of B: columns are features, terms outputs, of weights [K/(V*LANES), C, V*LANES]."""
    groups, features, width = weight.shape
    threads.run(
        _side_by_side(True), features // LANES, weight.size, weight.reshape(-1), packed, memory,
        LANES, features, weight.strides[1], groups * width // LANES, width // LANES, weight.strides[0],
    )  # fmt: skip


@lru_cache
def _side_by_side(TURN):
    @kernel(int64, int64, int64, FLOATS, FLOATS, MEMORY, int64, int64, int64, int64, int64, int64)
    def linear_pack_side_by_side(
        worker, first, last, x, packed, memory, rows, count, row, halves, per_group, group
    ):
        terms = ceil_div(halves, 2)
        lines = memory.ctypes.data + worker * memory.strides[0]
        for task in range(first, last):  # one tile of rows
            source = x.ctypes.data + task * rows * row
            present = min(rows, count - task * rows)
            for block in range(terms):
                half = 2 * block
                one = source + half // per_group * group + half % per_group * VECTOR_BYTES
                half, two = half + 1, 0
                if half < halves:
                    two = source + half // per_group * group + half % per_group * VECTOR_BYTES
                target = packed.ctypes.data + (task * terms + block) * TILE_BYTES
                if TURN:
                    pack_pixels(lines, one, two, row, present)
                    turn_tile(target, LINE, lines, LINE)
                else:
                    pack_pixels(target, one, two, row, present)

    return linear_pack_side_by_side


def pack_columns(threads: Threads, weight, packed, memory) -> None:
    """Write tiles of B: columns are outputs, terms features, of weights [K/(V*LANES), C, V*LANES]."""
    groups, features, width = weight.shape
    threads.run(
        _one_below_another(False), groups * width // LANES, weight.size, weight.reshape(-1), packed, memory,
        1, 0, features, weight.strides[1], width // LANES, weight.strides[0],
    )  # fmt: skip


def pack_samples(threads: Threads, x, packed, memory, leaves: int, *, turned: bool) -> None:
    """Write tiles of B, or (turned) of A: columns (rows) are features, terms the samples of each leaf.

    A leaf begins with a block.

    Parameters
    ----------
    x : float32 [N, F]
    """
    per_leaf, tiles = len(x) // leaves, x.shape[1] // LANES
    threads.run(
        _one_below_another(turned), tiles * leaves, x.size, x.reshape(-1), packed, memory,
        leaves, per_leaf * x.strides[0], per_leaf, x.strides[0], tiles, 0,
    )  # fmt: skip


@lru_cache
def _one_below_another(TURN):
    @kernel(int64, int64, int64, FLOATS, FLOATS, MEMORY, int64, int64, int64, int64, int64, int64)
    def linear_pack_one_below_another(
        worker, first, last, x, packed, memory, leaves, leaf_step, count, row, per_group, group
    ):
        blocks = ceil_div(count, TERMS)
        lines = memory.ctypes.data + worker * memory.strides[0]
        for task in range(first, last):  # one tile of columns in one leaf
            tile, leaf = divmod(task, leaves)
            source = x.ctypes.data + leaf * leaf_step
            source += tile // per_group * group + tile % per_group * VECTOR_BYTES
            for block in range(blocks):
                terms = min(TERMS, count - block * TERMS)
                target = packed.ctypes.data + (task * blocks + block) * TILE_BYTES
                if TURN:
                    pack_pairs(lines, source + block * TERMS * row, row, terms, TERMS // 2)
                    turn_tile(target, LINE, lines, LINE)
                else:
                    pack_pairs(target, source + block * TERMS * row, row, terms, TERMS // 2)

    return linear_pack_one_below_another
