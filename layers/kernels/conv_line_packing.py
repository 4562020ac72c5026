"""Pixels of images in lines, packed into tiles of bf16: of x the rows are channels, of dy the columns are.

A line is row after row of `pitch` pixels, zeros where the image has none.
"""

from functools import lru_cache

from numba import float32, int64

from layers.arithmetic import ceil_div
from layers.kernels.bf16 import clear
from layers.kernels.jit import inline, kernel
from layers.kernels.pixel_tiles import copy_strided
from layers.kernels.rows import IMAGE, row_address
from layers.kernels.runs import rows_of_run
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads
from layers.kernels.tile_packing import LINE, pack_pairs, turn_tile
from layers.kernels.tile_sums import VECTOR_BYTES
from layers.kernels.tile_unit import TERMS, TILE_BYTES

FLOATS, MEMORY = float32[::1], float32[:, ::1]


def pack_x(
    threads: Threads, x, packed, memory, residues: tuple[int, int], lines: tuple[int, int, int],
    stride: int, dilation: int, padding: tuple[int, int],
) -> None:  # fmt: skip
    """Write x as bf16 [N, C/LANES, lines, LANES, terms], a line for each residue of rows and columns.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES]
    packed : float32
        Flat, large enough.
    memory : float32, a row of MEMORY_FLOATS or more a thread
        Working memory.
    residues
        Numbers of them. Number u is that of row u * dilation.
    lines : (rows, pitch, terms)
        Of a line, with `terms` a multiple of TERMS.
    """
    tasks = x.shape[0] * x.shape[1] * residues[0] * residues[1]
    threads.run(
        _pack_x(), tasks, 2 * x.size, x, packed, memory, *residues, *lines, stride, dilation, *padding
    )


def pack_dy(threads: Threads, dy, packed, memory, pitch: int, blocks: int, leaves: int, cut: int) -> None:
    """Write dy as bf16 [K/LANES, N, blocks, 16, LANES, 2]: each part of an image in a run begins a block.

    Parameters
    ----------
    dy : float32 [N, K/LANES, OH, OW, LANES]
    packed, memory
        As for `pack_x`.
    blocks : int
        Room for those of an image.
    leaves, cut : int
        Leaves, and the runs of each.
    """
    tasks = dy.shape[0] * dy.shape[1]
    threads.run(_pack_dy(), tasks, 2 * dy.size, dy, packed, memory, pitch, blocks, leaves, cut)


@inline
def part_blocks(rows, pitch):
    """Return the blocks of a part of so many rows."""
    return ceil_div(rows * pitch, TERMS)


@lru_cache(maxsize=1)
def _pack_x():
    @kernel(
        int64, int64, int64, IMAGE, FLOATS, MEMORY,
        int64, int64, int64, int64, int64, int64, int64, int64, int64,
    )  # fmt: skip
    def conv_pack_x_lines(
        worker,
        first,
        last,
        x,
        packed,
        memory,
        down,
        right,
        rows,
        pitch,
        terms,
        stride,
        dilation,
        pad_h,
        pad_w,
    ):
        pixels = memory.ctypes.data + worker * memory.strides[0]
        words = pixels + TERMS * VECTOR_BYTES
        for task in range(first, last):  # one line of one block of channels
            image, line = divmod(task, down * right)
            n, block = divmod(image, x.shape[1])
            u, v = divmod(line, right)
            top, left = u * dilation % stride - pad_h, v * dilation % stride - pad_w
            target = packed.ctypes.data + task * LANES * terms * 2
            for q in range(0, terms, TERMS):
                _gather(pixels, x, n, block, q, pitch, rows, top, left, stride)
                pack_pairs(words, pixels, VECTOR_BYTES, TERMS, TERMS // 2)
                turn_tile(target + 2 * q, 2 * terms, words, LINE)

    return conv_pack_x_lines


@lru_cache(maxsize=1)
def _pack_dy():
    @kernel(int64, int64, int64, IMAGE, FLOATS, MEMORY, int64, int64, int64, int64)
    def conv_pack_dy_lines(worker, first, last, dy, packed, memory, pitch, blocks, leaves, cut):
        samples, rows = dy.shape[0], dy.shape[2]
        per_leaf = samples // leaves
        pixels = memory.ctypes.data + worker * memory.strides[0]
        for task in range(first, last):  # one block of channels of one sample
            block, n = divmod(task, samples)
            target = packed.ctypes.data + task * blocks * TILE_BYTES
            leaf = n // per_leaf
            for run in range(leaf * cut, (leaf + 1) * cut):
                first_row, end_row = rows_of_run(run, cut, per_leaf, rows)
                i, end = max(0, first_row - n * rows), min(rows, end_row - n * rows)
                for part_block in range(part_blocks(end - i, pitch)):
                    _gather(pixels, dy, n, block, i * pitch + part_block * TERMS, pitch, end, 0, 0, 1)
                    pack_pairs(target, pixels, VECTOR_BYTES, TERMS, TERMS // 2)
                    target += TILE_BYTES

    return conv_pack_dy_lines


@inline
def _gather(pixels, image, n, block, q, pitch, rows, top, left, stride):
    """Copy TERMS pixels of a line, from number `q` on, to an address; from row `rows` on they are zero."""
    height, width = image.shape[2], image.shape[3]
    done = 0
    while done < TERMS:
        i, j = divmod(q + done, pitch)
        count = min(TERMS - done, pitch - j)
        h, w = i * stride + top, j * stride + left
        target = pixels + done * VECTOR_BYTES
        begin = end = count
        if i < rows and h >= 0 and h < height:
            begin = min(count, max(0, ceil_div(-w, stride)))
            end = max(begin, min(count, ceil_div(width - w, stride)))
            source = row_address(image, n, block, h) + (w + begin * stride) * VECTOR_BYTES
            copy_strided(target + begin * VECTOR_BYTES, source, stride * LANES, end - begin)
        clear(target, begin * VECTOR_BYTES)
        clear(target + end * VECTOR_BYTES, (count - end) * VECTOR_BYTES)
        done += count
