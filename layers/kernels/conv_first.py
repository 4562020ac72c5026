"""The weight gradient of a first layer: 1 to 4 input channels, few weights, many pixels.

dy is by far the largest operand and is read once: a task is a leaf, which holds all kernel rows, columns and
channels of some output channels, and the rows of the register tiles are the columns of the kernel.
"""

from functools import lru_cache

import numpy as np
from numba import float32, int64

from layers.kernels.epilogue import PLAIN, TAPS, Epilogue, unpool_row
from layers.kernels.jit import kernel
from layers.kernels.register_tile import (
    LOAD,
    NO_BIAS,
    TILE_ROWS,
    Loop,
    Scalars,
    Sums,
    Tile,
    Vectors,
    at_once,
    multiply_tiles,
)
from layers.kernels.rows import IMAGE, row_address
from layers.kernels.simd import LANES, add_vectors
from layers.kernels.threads import Threads
from layers.kernels.tiling import split_rows

WEIGHT = float32[:, :, :, :, :, ::1]
PARTIALS = float32[:, :, :, :, :, ::1]
NO_ROWS = np.zeros((1, 1, LANES), np.float32)  # stands for working memory where none is needed
MOST_CHANNELS, MOST_COLUMNS = 4, 14
CHUNK_COLUMNS = 64  # columns of dy in the L1 cache while kernel rows and channels pass; even, for pooling


def applies(channels: int, kernel_columns: int) -> bool:
    """Return whether the kernel serves a layer."""
    return channels <= MOST_CHANNELS and kernel_columns <= MOST_COLUMNS


def tile_vectors(k_blocks: int, kernel_columns: int) -> int:
    """Return the vectors of output channels of the register tile."""
    most = at_once(min(kernel_columns, TILE_ROWS), 4)
    return next(v for v in (4, 2, 1) if k_blocks % v == 0 and v <= most)


def partials_shape(
    k_blocks: int, channels: int, kernel_shape: tuple[int, int], leaves: int
) -> tuple[int, ...]:
    """Return the shape of the gradients of single leaves."""
    vectors = tile_vectors(k_blocks, kernel_shape[1])
    return leaves, k_blocks // vectors, kernel_shape[0], channels, kernel_shape[1], vectors * LANES


def chunk_shape(k_blocks: int, kernel_columns: int, threads: int) -> tuple[int, int, int]:
    """Return the shape of the working memory for a chunk of dy before pooling, one a thread."""
    return threads, tile_vectors(k_blocks, kernel_columns), CHUNK_COLUMNS * LANES


def backward_weights(
    threads: Threads,
    x,
    dy,
    partials,
    gradient,
    stride: int,
    padding: tuple[int, int],
    *,
    epilogue: Epilogue = PLAIN,
    chunk=NO_ROWS,
) -> None:
    """Write the gradient: inside a leaf over (sample, row, column), in that order; leaves as a tree.

    Behind an epilogue that pools, dy is the pooled gradient: its rows are made whole while in cache.

    Parameters
    ----------
    x : float32 [N, 1, H, W, LANES]
        With the halo of `conv_direct.forward`.
    dy : float32 [N, K/LANES, OH, OW, LANES]
    partials : float32, shape from `partials_shape`
        Working memory; its first axis gives the number of leaves.
    gradient : float32 [K/(V*LANES), 1, R, S, LANES, V*LANES]
    epilogue : Epilogue
        NONE, or RELU_POOL with its taps.
    chunk : float32, shape from `chunk_shape`
        Working memory, where the epilogue pools.
    """
    leaves, groups, _, channels, taps, width = partials.shape
    window = epilogue.window
    work = 2 * dy.size * window * window * channels * gradient.shape[2] * taps
    run = _leaf(taps, width // LANES, stride, window)
    threads.run(run, leaves * groups, work, x, dy, epilogue.argmax, chunk, partials, *padding)
    threads.run(_sum(), groups, partials.size, partials, gradient)


@lru_cache
def _leaf(COLUMNS, VECTORS, STRIDE, WINDOW):
    WIDTH = VECTORS * LANES
    ROWS, TAIL = split_rows(COLUMNS, TILE_ROWS)
    TILE = Tile(ROWS, VECTORS, LANES, LOAD, TAIL)

    @kernel(int64, int64, int64, IMAGE, IMAGE, TAPS, float32[:, :, ::1], PARTIALS, int64, int64)
    def conv_first_backward_weights(worker, first, last, x, dy, argmax, chunk, partials, pad_h, pad_w):
        leaves, groups, r, channels = partials.shape[:4]
        height, rows, columns = x.shape[2], WINDOW * dy.shape[2], WINDOW * dy.shape[3]
        per_leaf = dy.shape[0] // leaves
        x_at, dy_at, dy_block = x.ctypes.data, dy.ctypes.data, dy.strides[1] // 4
        chunk_at = chunk.ctypes.data + worker * chunk.strides[0]
        for task in range(first, last):  # one leaf of one group of output channels
            leaf, group = divmod(task, groups)
            partials[leaf, group] = 0
            c = partials.ctypes.data + leaf * partials.strides[0] + group * partials.strides[1]
            for n in range(leaf * per_leaf, (leaf + 1) * per_leaf):
                for i in range(rows):
                    top = i * STRIDE - pad_h
                    for j in range(0, columns, CHUNK_COLUMNS):
                        count = min(CHUNK_COLUMNS, columns - j)
                        b, b_vector = chunk_at, CHUNK_COLUMNS * LANES
                        if WINDOW == 1:
                            b = (
                                dy_at + n * dy.strides[0] + group * VECTORS * dy.strides[1]
                                + i * dy.strides[2] + 4 * j * LANES
                            )  # fmt: skip
                            b_vector = dy_block
                        else:
                            for vector in range(VECTORS):
                                block = group * VECTORS + vector
                                unpool_row(
                                    row_address(dy, n, block, i // 2) + 4 * (j // 2) * LANES,
                                    row_address(argmax, n, block, i // 2) + (j // 2) * LANES,
                                    count // 2, 2 * (i % 2), b + vector * chunk.strides[1],
                                )  # fmt: skip
                        for u in range(max(0, -top), min(r, height - top)):
                            a = (
                                x_at
                                + n * x.strides[0]
                                + (top + u) * x.strides[2]
                                + 4 * (j * STRIDE - pad_w) * LANES
                            )
                            for channel in range(channels):
                                sums = c + u * partials.strides[2] + channel * partials.strides[3]
                                multiply_tiles(
                                    TILE, COLUMNS // ROWS, Scalars(a + 4 * channel, tile=ROWS * LANES),
                                    Vectors(b, b_vector), Sums(sums, row=WIDTH, vector=LANES), NO_BIAS,
                                    (Loop(count, STRIDE * LANES, LANES),),
                                )  # fmt: skip

    return conv_first_backward_weights


@lru_cache
def _sum():
    @kernel(int64, int64, int64, PARTIALS, WEIGHT)
    def conv_first_sum_leaves(worker, first, last, partials, gradient):
        leaves, _, r, channels, s, width = partials.shape
        vectors, per_group = width // LANES, gradient.shape[5] // LANES
        for group in range(first, last):
            at, level = partials.ctypes.data + group * partials.strides[1], partials.strides[0]
            distance = 1
            while distance < leaves:  # in place, nearest first: the balanced tree
                for leaf in range(0, leaves, 2 * distance):
                    add_vectors(
                        at + leaf * level, at + (leaf + distance) * level, partials.strides[1] // (4 * LANES)
                    )
                distance *= 2
            for j in range(vectors):
                k_group, vector = divmod(group * vectors + j, per_group)
                for u in range(r):
                    for v in range(s):
                        for lane in range(LANES):
                            for k in range(LANES):
                                value = (
                                    partials[0, group, u, lane, v, j * LANES + k]
                                    if lane < channels
                                    else float32(0)
                                )
                                gradient[k_group, 0, u, v, lane, vector * LANES + k] = value

    return conv_first_sum_leaves
