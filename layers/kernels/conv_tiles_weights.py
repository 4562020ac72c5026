"""The weight gradient of a convolution of bf16 on the tile unit.

The pixels of an image of dy lie in one line, row after row, each with as many zeros behind it as taps are
columns apart: so a tap meets x at one distance all along the line. Of a strided convolution each residue of
the pixels of x has a line of its own. A tile of A is 16 channels of x by 32 pixels, one of B those of dy.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from numba import float32, int64

from layers.arithmetic import ceil_div, round_up
from layers.kernels.bf16 import clear
from layers.kernels.conv_direct import WEIGHT
from layers.kernels.conv_line_packing import pack_dy, pack_x, part_blocks
from layers.kernels.jit import inline, kernel
from layers.kernels.leaves import stack_depth, tree_add_unflushed
from layers.kernels.pixel_lines import PixelLines
from layers.kernels.register_tile import LOAD
from layers.kernels.residues import step_and_fall
from layers.kernels.runs import rows_of_run, runs_of_leaf
from layers.kernels.simd import LANES, copy_vectors
from layers.kernels.threads import Threads
from layers.kernels.tile_block import (
    Pairs,
    TileBlock,
    TileLoop,
    Tiles,
    begin_tiles,
    end_tiles,
    multiply_tiles,
)
from layers.kernels.tile_packing import LINE
from layers.kernels.tile_sums import VECTOR_BYTES, write_sums
from layers.kernels.tile_unit import MEMORY_FLOATS, ROWS, TERMS, TILE_BYTES, TileUnit

FLOATS = float32[::1]
BAND = 8  # blocks of pixels of two tiles of x and dy that stay in the first-level cache for all taps
TASKS_PER_THREAD = 4
FOUR_TILES = 4 * TILE_BYTES


class Room(NamedTuple):
    """Floats of working memory."""

    x: int
    dy: int
    tiles: tuple[int, int]
    """One row a thread."""


@dataclass(frozen=True)
class Lines(PixelLines):
    """How pixels of x and dy lie in lines, and where the runs of leaves cut them."""

    samples: int
    leaves: int

    @property
    def x_terms(self) -> int:
        """Pixels of a line of x, and zeros behind: an odd number of cache lines, which share fewer sets."""
        terms = round_up(self.x_rows * self.pitch + self.right + TERMS, TERMS)
        return terms + TERMS * (terms // TERMS % 2 == 0)

    @property
    def runs(self) -> int:
        """Runs of a leaf."""
        return runs_of_leaf(self.samples // self.leaves, self.rows, self.columns)

    @property
    def blocks(self) -> int:
        """Room for the blocks of an image of dy: each of its parts may end with one that is not full."""
        return ceil_div(self.rows * self.pitch, TERMS) + self.runs - 1

    def room(self, c_blocks: int, k_blocks: int, threads: int) -> Room:
        """Return the working memory of `backward_weights`."""
        lines = self.residues[0] * self.residues[1]
        taps = self.task_rows(c_blocks, k_blocks, threads) * self.kernel[1]
        staged = stack_depth(self.leaves * self.runs) * taps * FOUR_TILES // 4
        return Room(
            self.samples * c_blocks * lines * LANES * self.x_terms // 2,
            k_blocks * self.samples * self.blocks * TILE_BYTES // 4,
            (threads, MEMORY_FLOATS + staged),
        )

    def task_rows(self, c_blocks: int, k_blocks: int, threads: int) -> int:
        """Return the kernel rows of a task: all, or one where there would be too few tasks."""
        tasks = ceil_div(c_blocks, 2) * ceil_div(k_blocks, 2)
        return self.kernel[0] if tasks >= TASKS_PER_THREAD * threads else 1


def backward_weights(
    threads: Threads,
    unit: TileUnit,
    x: Any,
    dy: Any,
    packed: tuple[Any, ...],
    gradient: Any,
    stride: int,
    padding: tuple[int, int],
    leaves: int,
    dilation: int = 1,
) -> None:
    """Write the gradient: in each part of an image over blocks of 32 pixels; runs and leaves as a tree.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES]
    dy : float32 [N, K/LANES, OH, OW, LANES]
    packed : three of float32, sizes from `Lines.room`
        Working memory.
    gradient : float32 [K/(V*LANES), C/LANES, R, S, LANES, V*LANES]
    """
    c_blocks, k_blocks = x.shape[1], dy.shape[1]
    _, _, rows, columns, _ = dy.shape
    lines = Lines(gradient.shape[2:4], stride, dilation, rows, columns, len(dy), leaves)
    pack_x(
        threads, x, packed[0], packed[2], lines.residues, (lines.x_rows, lines.pitch, lines.x_terms),
        stride, dilation, padding,
    )  # fmt: skip
    pack_dy(threads, dy, packed[1], packed[2], lines.pitch, lines.blocks, leaves, lines.runs)
    task_rows = lines.task_rows(c_blocks, k_blocks, threads.count)
    tasks = ceil_div(c_blocks, 2) * ceil_div(k_blocks, 2) * ceil_div(lines.kernel[0], task_rows)
    work = 2 * dy.size * c_blocks * LANES * lines.kernel[0] * lines.kernel[1]
    threads.run(
        _kernel(unit, stride, dilation), tasks, work, packed[0], packed[1], gradient, packed[2],
        c_blocks, k_blocks, len(dy), lines.rows, leaves, lines.runs,
        lines.pitch, lines.x_terms, lines.blocks, task_rows, BAND,
    )  # fmt: skip


@lru_cache
def _kernel(UNIT, STRIDE, DILATION):
    SHAPES = ((2, 2), (2, 1), (1, 2), (1, 1))
    FOUR, BELOW, BESIDE, ONE = (TileBlock(UNIT, *tiles, 2, LOAD) for tiles in SHAPES)
    STEP, _ = step_and_fall(STRIDE, DILATION)

    @kernel(
        int64, int64, int64, FLOATS, FLOATS, WEIGHT, float32[:, ::1],
        int64, int64, int64, int64, int64, int64, int64, int64, int64, int64, int64,
    )  # fmt: skip
    def conv_tiles_weights(
        worker, first, last, x, dy, gradient, memory,
        c_blocks, k_blocks, samples, rows, leaves, cut, pitch, x_terms, image_blocks, task_rows, band,
    ):  # fmt: skip
        r, s = gradient.shape[2], gradient.shape[3]
        right = min(s, STEP)
        lines, x_line = min(r, STEP) * right, LANES * x_terms * 2
        x_block, dy_block = lines * x_line, samples * image_blocks * TILE_BYTES
        unit = memory.ctypes.data + worker * memory.strides[0]
        staged, level = unit + 4 * MEMORY_FLOATS, task_rows * s * FOUR_TILES
        begin_tiles(FOUR, unit, ROWS)
        for task in range(first, last):  # some kernel rows of two blocks of channels of each side
            pair, ug = divmod(task, ceil_div(r, task_rows))
            kg, cg = divmod(pair, ceil_div(c_blocks, 2))
            cb, kb, u0 = 2 * cg, 2 * kg, ug * task_rows
            u1 = min(r, u0 + task_rows)
            wide, high = kb + 1 < k_blocks, cb + 1 < c_blocks
            top = before = 0
            for run in range(leaves * cut):
                row, end_row = rows_of_run(run, cut, samples // leaves, rows)
                slot = staged + top * level
                clear(slot, level)
                while row < end_row:  # an image, or the part of one that is in the run
                    n, i = divmod(row, rows)
                    height = min(rows - i, end_row - row)
                    row += height
                    blocks = part_blocks(height, pitch)
                    if i == 0:
                        before = 0
                    for q in range(0, blocks, band):
                        pairs = Pairs(
                            dy.ctypes.data + kb * dy_block + (n * image_blocks + before + q) * TILE_BYTES,
                            dy_block,
                        )
                        nest = (TileLoop(min(band, blocks - q), LINE, TILE_BYTES),)
                        for u in range(u0, u1):
                            for v in range(s):
                                line = u % STEP * right + v % STEP
                                shift = u * DILATION // STRIDE * pitch + v * DILATION // STRIDE
                                a0 = x.ctypes.data + (n * c_blocks + cb) * x_block + line * x_line
                                a0 += 2 * (i * pitch + q * TERMS + shift)
                                a1 = a0 + x_block
                                s0 = slot + ((u - u0) * s + v) * FOUR_TILES
                                s1 = s0 + 2 * TILE_BYTES
                                two, one = Tiles((a0, a1), 2 * x_terms, 0), Tiles((a0,), 2 * x_terms, 0)
                                sums = Tiles((s0, s1), VECTOR_BYTES, TILE_BYTES)
                                upper = Tiles((s0,), VECTOR_BYTES, TILE_BYTES)
                                if high and wide:
                                    multiply_tiles(FOUR, unit, two, pairs, sums, sums, nest)
                                elif high:
                                    multiply_tiles(BELOW, unit, two, pairs, sums, sums, nest)
                                elif wide:
                                    multiply_tiles(BESIDE, unit, one, pairs, upper, upper, nest)
                                else:
                                    multiply_tiles(ONE, unit, one, pairs, upper, upper, nest)
                    before += blocks
                write_sums(slot, VECTOR_BYTES, slot, VECTOR_BYTES, level // VECTOR_BYTES)
                top = tree_add_unflushed(staged, level, top, run, level // VECTOR_BYTES)
            for u in range(u0, u1):
                for v in range(s):
                    source = staged + ((u - u0) * s + v) * FOUR_TILES
                    _write(gradient, source, kb, cb, u, v)
                    if wide:
                        _write(gradient, source + TILE_BYTES, kb + 1, cb, u, v)
                    if high:
                        _write(gradient, source + 2 * TILE_BYTES, kb, cb + 1, u, v)
                    if wide and high:
                        _write(gradient, source + 3 * TILE_BYTES, kb + 1, cb + 1, u, v)
        end_tiles(FOUR, unit)

    return conv_tiles_weights


@inline
def _write(gradient, source, k_block, c_block, u, v):
    """Copy a tile, 16 input by 16 output channels, into the blocked weights."""
    group, vector = divmod(k_block, gradient.shape[5] // LANES)
    for lane in range(LANES):
        target = gradient[group, c_block, u, v, lane].ctypes.data + vector * VECTOR_BYTES
        copy_vectors(target, source + lane * VECTOR_BYTES, 1)
