"""The weight and bias gradients of a first layer: 1 to 4 input channels, few weights, many pixels.

dy is by far the largest operand and is read once: a task is a run of a leaf, which holds all kernel rows,
columns and channels of some output channels. x is dense (`first_rows`), and a chunk of a row of dy stays in
the first-level cache while the tiles (`gradient_tile`) pass; beside them the next chunk is fetched.
"""

from functools import lru_cache

import numpy as np
from numba import float32, int64

from layers.arithmetic import ceil_div
from layers.kernels.epilogue import PLAIN, TAPS, Epilogue, unpool_row
from layers.kernels.first_rows import MOST_CHANNELS
from layers.kernels.gradient_tile import GradientTile, cut, gradient_tile
from layers.kernels.jit import inline, kernel
from layers.kernels.register_tile import (
    LOAD,
    Loop,
    Sums,
    Tile,
    Vectors,
    multiply_tile,
)
from layers.kernels.rows import IMAGE, row_address
from layers.kernels.runs import rows_of_run
from layers.kernels.simd import LANES, add_vectors
from layers.kernels.threads import Threads

WEIGHT = float32[:, :, :, :, :, ::1]
PARTIALS = float32[:, :, :, ::1]
NO_ROWS = np.zeros((1, 1, LANES), np.float32)  # stands for working memory where none is needed
ONE = np.ones(1, np.float32)  # a sum is a product with ones on the register tile
CHUNK_COLUMNS = 128  # of dy in the L1 cache while kernel rows and channels pass; even, for pooling
AHEAD = CHUNK_COLUMNS  # pixels of dy that are asked for ahead of those that are summed
TASKS_PER_THREAD = 4


def applies(channels: int) -> bool:
    """Return whether the kernel serves a layer."""
    return channels <= MOST_CHANNELS


def scratch_shapes(
    k_blocks: int, channels: int, kernel_shape: tuple[int, int], runs: int, threads: int
) -> tuple[tuple[int, int, int, int], tuple[int, int, int]]:
    """Return the shapes of the working memory: gradients of all runs, and a chunk of dy.

    The chunk serves an epilogue that pools.
    """
    terms = kernel_shape[1] * channels
    vectors = cut(k_blocks, kernel_shape[0], terms).vectors
    return (
        (runs, k_blocks // vectors, kernel_shape[0] * terms + 1, vectors * LANES),
        (threads, vectors, CHUNK_COLUMNS * LANES),
    )


def backward_weights(
    threads: Threads, x, dy, partials, gradient, bias_gradient, stride: int,
    padding: tuple[int, int], leaves: int, rows: int, *, epilogue: Epilogue = PLAIN, chunk=NO_ROWS,
) -> None:  # fmt: skip
    """Write the gradients: inside a run over (sample, row, column), in that order; runs and leaves as a tree.

    Behind an epilogue that pools, dy is the pooled gradient: its rows are made whole while in cache. The bias
    gradient is then left to `epilogue.bias_gradient`.

    Parameters
    ----------
    x : float32 [N, 1, H, W, C]
        With the halo of `conv_direct.forward`.
    dy : float32 [N, K/LANES, OH, OW, LANES]
    partials, chunk : float32, shapes from `scratch_shapes`
        Working memory; the first axis of `partials` gives the runs of all leaves.
    gradient : float32 [K/(V*LANES), 1, R, S, LANES, V*LANES]
    bias_gradient : float32 [K rounded up to LANES]
    leaves, rows : int
        `rows` are those of the convolution's own result.
    epilogue : Epilogue
        NONE, or RELU_POOL with its taps.
    """
    runs, groups, _, width = partials.shape
    _, _, r, s, _, _ = gradient.shape
    channels = x.shape[4]
    window = epilogue.window
    tiles = cut(dy.shape[1], r, s * channels)
    shares = min(groups, ceil_div(TASKS_PER_THREAD * threads.count, runs))  # of a run
    share_groups = ceil_div(groups, shares)
    work = 2 * dy.size * window * window * channels * r * s
    fetched = ceil_div(tiles.vectors, tiles.tiles(r, s * channels)) if window == 1 else 0
    run = _run(
        tiles.kernel_rows, tiles.terms, tiles.tail, tiles.vectors, tiles.has_bias, fetched, s, stride,
        channels, window,
    )  # fmt: skip
    threads.run(
        run, runs * ceil_div(groups, share_groups), work, x, dy, epilogue.argmax, chunk, ONE, partials, r,
        *padding, leaves, rows, share_groups,
    )  # fmt: skip
    threads.run(_sum(), groups, partials.size, partials, channels, gradient)
    if window == 1:
        bias_gradient.reshape(groups, width)[...] = partials[0, :, -1]


@inline
def _ahead(fetched, vectors, distance):
    """Return the distance of the pixels to ask for, of the vector behind `fetched` ones; 0: none is left."""
    return AHEAD * LANES + fetched * distance if fetched < vectors else 0


@lru_cache
def _run(KERNEL_ROWS, ROWS, TAIL, VECTORS, HAS_BIAS, FETCHED, COLUMNS, STRIDE, CHANNELS, WINDOW):
    PANEL = VECTORS * LANES
    TERMS = COLUMNS * CHANNELS
    STEP = STRIDE * CHANNELS
    BEGINS = WINDOW == 1 and HAS_BIAS
    BLOCK = GradientTile(KERNEL_ROWS, TERMS if KERNEL_ROWS > 1 else ROWS, VECTORS, STEP, BEGINS, FETCHED)
    TILE = GradientTile(1, ROWS, VECTORS, STEP, BEGINS, FETCHED)
    LAST = GradientTile(1, TAIL if TAIL > 0 else ROWS, VECTORS, STEP, False, FETCHED)
    BIAS_TILE = Tile(1, VECTORS, 1, LOAD)

    @kernel(
        int64, int64, int64, IMAGE, IMAGE, TAPS, float32[:, :, ::1], float32[::1], PARTIALS, int64,
        int64, int64, int64, int64, int64,
    )  # fmt: skip
    def conv_first_backward_weights(
        worker, first, last, x, dy, argmax, chunk, one, partials, r, pad_h, pad_w, leaves, rows,
        share_groups,
    ):  # fmt: skip
        groups, height = partials.shape[1], x.shape[2]
        whole_rows, columns = WINDOW * dy.shape[2], WINDOW * dy.shape[3]  # no window covers the rest
        cut, per_leaf = partials.shape[0] // leaves, dy.shape[0] // leaves
        shares = ceil_div(groups, share_groups)
        dy_block = dy.strides[1] // 4
        pitch = x.strides[2] // 4
        room_chunk = chunk.ctypes.data + worker * chunk.strides[0]
        for task in range(first, last):  # one run of some groups of output channels
            run, share = divmod(task, shares)
            group0, group1 = share * share_groups, min(groups, (share + 1) * share_groups)
            first_row, end_row = rows_of_run(run, cut, per_leaf, rows)
            partials[run, group0:group1] = 0
            for n in range(first_row // rows, ceil_div(end_row, rows)):
                image = x.ctypes.data + n * x.strides[0] - 4 * pad_w * CHANNELS
                i1 = min(whole_rows, end_row - n * rows)
                for i in range(max(0, first_row - n * rows), i1):
                    top = i * STRIDE - pad_h
                    for j in range(0, columns, CHUNK_COLUMNS):
                        count = min(CHUNK_COLUMNS, columns - j)
                        for group in range(group0, group1):
                            b, b_vector = room_chunk, CHUNK_COLUMNS * LANES
                            if WINDOW == 1:
                                b = row_address(dy, n, group * VECTORS, i) + 4 * j * LANES
                                b_vector = dy_block
                            else:
                                for vector in range(VECTORS):
                                    block = group * VECTORS + vector
                                    unpool_row(
                                        row_address(dy, n, block, i // 2) + 4 * (j // 2) * LANES,
                                        row_address(argmax, n, block, i // 2) + (j // 2) * LANES,
                                        count // 2, 2 * (i % 2), b + vector * chunk.strides[1],
                                    )  # fmt: skip
                            sums = (
                                partials.ctypes.data + run * partials.strides[0] + group * partials.strides[1]
                            )
                            bias = sums + 4 * r * TERMS * PANEL
                            met = 0  # tiles that have met the chunk
                            u, end = max(0, -top), min(r, height - top)
                            while u < end:
                                a = image + 4 * ((top + u) * pitch + j * STEP)
                                c = sums + 4 * u * TERMS * PANEL
                                if KERNEL_ROWS > 1 and u + KERNEL_ROWS <= end:
                                    ahead = b + 4 * _ahead(met * FETCHED, VECTORS, b_vector)
                                    gradient_tile(
                                        BLOCK, met == 0, a, pitch, Vectors(b, b_vector), ahead,
                                        Sums(c, row=PANEL, vector=LANES), bias, count,
                                    )  # fmt: skip
                                    met += 1
                                    u += KERNEL_ROWS
                                else:
                                    for term in range(0, TERMS - TAIL, ROWS):
                                        ahead = b + 4 * _ahead(met * FETCHED, VECTORS, b_vector)
                                        gradient_tile(
                                            TILE, met == 0, a + 4 * term, pitch, Vectors(b, b_vector), ahead,
                                            Sums(c + 4 * term * PANEL, row=PANEL, vector=LANES), bias, count,
                                        )  # fmt: skip
                                        met += 1
                                    if TAIL > 0:
                                        term = TERMS - TAIL
                                        ahead = b + 4 * _ahead(met * FETCHED, VECTORS, b_vector)
                                        gradient_tile(
                                            LAST, False, a + 4 * term, pitch, Vectors(b, b_vector), ahead,
                                            Sums(c + 4 * term * PANEL, row=PANEL, vector=LANES), bias, count,
                                        )  # fmt: skip
                                        met += 1
                                    u += 1
                            if WINDOW == 1 and (met == 0 or not HAS_BIAS):
                                multiply_tile(
                                    BIAS_TILE, one.ctypes.data, Vectors(b, b_vector),
                                    Sums(bias, row=PANEL, vector=LANES), (Loop(count, 0, LANES),),
                                )  # fmt: skip

    return conv_first_backward_weights


@lru_cache
def _sum():
    @kernel(int64, int64, int64, PARTIALS, int64, WEIGHT)
    def conv_first_sum_runs(worker, first, last, partials, channels, gradient):
        runs, _, _, width = partials.shape
        r, s = gradient.shape[2], gradient.shape[3]
        vectors, per_group = width // LANES, gradient.shape[5] // LANES
        for group in range(first, last):
            at, level = partials.ctypes.data + group * partials.strides[1], partials.strides[0]
            distance = 1
            while distance < runs:  # in place, nearest first: the balanced tree
                for run in range(0, runs, 2 * distance):
                    add_vectors(
                        at + run * level, at + (run + distance) * level, partials.strides[1] // (4 * LANES)
                    )
                distance *= 2
            for j in range(vectors):
                k_group, vector = divmod(group * vectors + j, per_group)
                for tap in range(r * s):
                    u, v = divmod(tap, s)
                    for lane in range(LANES):
                        for k in range(LANES):
                            value = float32(0)
                            if lane < channels:
                                value = partials[0, group, tap * channels + lane, j * LANES + k]
                            gradient[k_group, 0, u, v, lane, vector * LANES + k] = value

    return conv_first_sum_runs
