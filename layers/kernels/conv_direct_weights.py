"""The weight and bias gradients of a direct convolution on the register tile.

The rows of the tile are input channels; the sum runs over the pixels of an image. A task makes several kernel
rows and blocks of input channels, as it reads dy once for all of them.
"""

from functools import lru_cache

import numpy as np
from numba import float32, int64

from layers.arithmetic import ceil_div
from layers.kernels.caches import band_rows
from layers.kernels.jit import inline, kernel
from layers.kernels.leaves import stack_depth, tree_add
from layers.kernels.matrix_tiles import Finished, Rows
from layers.kernels.pixel_tiles import Columns, Steps, leaf_tile
from layers.kernels.register_tile import LOAD, Loop, Sums, Tile, Vectors, multiply_tile
from layers.kernels.rows import IMAGE, row_address
from layers.kernels.runs import rows_of_run, runs_of_leaf
from layers.kernels.simd import LANES, copy_vectors
from layers.kernels.target import TARGET
from layers.kernels.threads import Threads

WEIGHT = float32[:, :, :, :, :, ::1]
NONE = Finished(0, 0, 0)
ONE = np.ones(1, np.float32)  # a sum is a product with ones on the register tile
L2_BYTES = 512 * 1024  # most partial sums of one task; the tree keeps a few of these
TASKS_PER_THREAD = 4  # at least: waiting for the last task to end costs a quarter of the time at most


def tile_shape(k_blocks: int, c_blocks: int, channels: int) -> tuple[int, int]:
    """Return (rows, vectors) of the tile of backward_weights: input channels by output vectors.

    4 x 4 needs the fewest loads for each multiply-add; narrower tiles leave small layers enough tasks.
    """
    rows = min(4, channels)
    if TARGET.width == LANES and k_blocks % 4 == 0 and k_blocks * c_blocks >= 32:
        return rows, 4
    if TARGET.width == LANES and channels >= LANES:
        rows = 8
        for wide, vectors in ((4, 5), (8, 3)):  # odd numbers of vectors: fewer loads than with one alone
            if k_blocks % 2 and k_blocks % vectors == 0:
                return wide, vectors
    return rows, 2 if k_blocks % 2 == 0 else 1


def task_block(
    k_blocks: int,
    c_blocks: int,
    vectors: int,
    kernel: tuple[int, int],
    threads: int,
    *,
    per_thread: int = TASKS_PER_THREAD,
) -> tuple[int, int]:
    """Return (kernel rows, input blocks) of one task of a weight gradient, given the vectors of its tile.

    A task reads dy once for all its partial sums, so it has many: all kernel rows and up to 4 blocks of input
    channels, but no more than fit the L2 cache, and fewer where there would be too few tasks (`per_thread`).
    """
    groups = k_blocks // vectors
    rows, blocks = kernel[0], min(4, c_blocks)
    block_bytes = 4 * kernel[0] * kernel[1] * LANES * vectors * LANES
    while blocks > 1 and (
        blocks * block_bytes > L2_BYTES or groups * ceil_div(c_blocks, blocks) < per_thread * threads
    ):
        blocks = ceil_div(blocks, 2)
    if groups * ceil_div(c_blocks, blocks) < per_thread * threads:
        rows = 1
    return rows, blocks


def stack_shape(
    k_blocks: int, c_blocks: int, channels: int, kernel: tuple[int, int], runs: int, threads: int
) -> tuple[int, ...]:
    """Return the shape of the partial sums of backward_weights, one stack a thread; `runs` of all leaves."""
    _, vectors = tile_shape(k_blocks, c_blocks, channels)
    rows, blocks = task_block(k_blocks, c_blocks, vectors, kernel, threads)
    return threads, stack_depth(runs), rows, blocks, kernel[1], LANES, vectors * LANES


def backward_weights(
    threads: Threads,
    x,
    dy,
    stack,
    gradient,
    channels: int,
    stride: int,
    padding: tuple[int, int],
    leaves: int,
    dilation: int = 1,
) -> None:
    """Write the gradient: inside a run over (sample, row, column), in that order; runs and leaves as a tree.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES]
        With the halo of `forward`.
    dy : float32 [N, K/LANES, OH, OW, LANES]
    stack : float32, shape from `stack_shape`
        Working memory.
    gradient : float32 [K/(V*LANES), C/LANES, R, S, LANES, V*LANES]
    """
    k_blocks, c_blocks, kernel_shape = dy.shape[1], x.shape[1], gradient.shape[2:4]
    rows, vectors = tile_shape(k_blocks, c_blocks, channels)
    taps, blocks = stack.shape[2:4]
    work = 2 * dy.size * channels * kernel_shape[0] * kernel_shape[1]
    run = _backward_weights(rows, channels % LANES % rows, vectors, stride, dilation)
    tasks = k_blocks // vectors * ceil_div(c_blocks, blocks) * ceil_div(kernel_shape[0], taps)
    band = band_rows(dy.shape[3], vectors * LANES)
    cut = runs_of_leaf(len(dy) // leaves, *dy.shape[2:4])
    threads.run(run, tasks, work, x, dy, stack, gradient, channels, padding[0], padding[1], leaves, cut, band)


@inline
def _clip(u, pad_h, stride, height, rows):
    """Return the range of output rows for which the row `u` below a kernel's first is inside the image."""
    low = max(0, -((u - pad_h) // stride))  # the smallest i with i * stride + u - pad_h >= 0
    high = min(rows, (height - 1 + pad_h - u) // stride + 1)
    return low, max(low, high)


@lru_cache
def _backward_weights(ROWS, TAIL, VECTORS, STRIDE, DILATION=1):
    PANEL = VECTORS * LANES
    TILE, LAST = Tile(ROWS, VECTORS, a_row=1), Tile(TAIL or ROWS, VECTORS, a_row=1)

    @kernel(
        int64, int64, int64, IMAGE, IMAGE, float32[:, :, :, :, :, :, ::1], WEIGHT,
        int64, int64, int64, int64, int64, int64,
    )  # fmt: skip
    def conv_backward_weights(
        worker, first, last, x, dy, stack, gradient, channels, pad_h, pad_w, leaves, cut, band
    ):
        samples, rows, columns = dy.shape[0], dy.shape[2], dy.shape[3]
        c_blocks, height = x.shape[1], x.shape[2]
        r, s = gradient.shape[2], gradient.shape[3]
        taps, blocks = stack.shape[2], stack.shape[3]
        x_row, dy_row, dy_block = x.strides[2] // 4, dy.strides[2] // 4, dy.strides[1] // 4
        per_leaf = samples // leaves
        level = stack.strides[1]
        base = stack.ctypes.data + worker * stack.strides[0]
        for task in range(first, last):  # kernel rows and input blocks of one group of output channels
            kg, rest = divmod(task, ceil_div(c_blocks, blocks) * ceil_div(r, taps))
            cg, ug = divmod(rest, ceil_div(r, taps))
            cb0, u0 = cg * blocks, ug * taps
            cb1, u1 = min(c_blocks, cb0 + blocks), min(r, u0 + taps)
            top = 0
            for run in range(leaves * cut):
                first_row, end_row = rows_of_run(run, cut, per_leaf, rows)
                stack[worker, top] = 0
                row = first_row
                while row < end_row:
                    # A band: rows of dy that stay in the L1 cache, or several samples.
                    n, i0 = divmod(row, rows)
                    number, i1 = 1, min(rows, i0 + band, i0 + end_row - row)
                    if i1 - i0 == rows:
                        number = max(1, min(band // rows, (end_row - row) // rows))
                    row += number * (i1 - i0)
                    next_n, next_i = divmod(row, rows)
                    next_dy = dy.ctypes.data + next_n * dy.strides[0] + next_i * dy.strides[2]
                    next_x = x.ctypes.data + next_n * x.strides[0]
                    next_x += ((next_i - 1) * STRIDE + (r - 1) * DILATION + 1 - pad_h) * x.strides[2]
                    tile = 0  # the first tiles ask for the next band, one block of channels each
                    for u in range(u0, u1):
                        low, high = _clip(u * DILATION, pad_h, STRIDE, height, rows)
                        low, high = max(low, i0), min(high, i1)
                        if low >= high:
                            continue
                        b = row_address(dy, n, kg * VECTORS, low)
                        for cb in range(cb0, cb1):
                            h = low * STRIDE + u * DILATION - pad_h
                            a = row_address(x, n, cb, h) - 4 * pad_w * LANES
                            partial = (
                                base + top * level + (u - u0) * stack.strides[2]
                                + (cb - cb0) * stack.strides[3]
                            )  # fmt: skip
                            lanes = min(LANES, channels - cb * LANES)
                            for v in range(s):
                                for lane in range(0, lanes, ROWS):
                                    at = v * LANES + lane
                                    ahead, ahead_row, ahead_pixel = a, 0, 0
                                    if tile < VECTORS:
                                        ahead = next_dy + (kg * VECTORS + tile) * dy.strides[1]
                                        ahead_row, ahead_pixel = dy_row, LANES
                                    elif tile < VECTORS + cb1 - cb0:
                                        ahead = next_x + (cb0 + tile - VECTORS) * x.strides[1]
                                        ahead_row, ahead_pixel = STRIDE * x_row, STRIDE * LANES
                                    tile += 1
                                    sums = Rows(partial + 4 * at * PANEL, PANEL)
                                    source = a + 4 * (v * DILATION * LANES + lane)
                                    columns_at = Columns(source, b, dy_block, ahead)
                                    nest = (
                                        Steps(number, x.strides[0] // 4, dy.strides[0] // 4, 0),
                                        Steps(high - low, STRIDE * x_row, dy_row, ahead_row),
                                        Steps(columns, STRIDE * LANES, LANES, ahead_pixel),
                                    )
                                    if TAIL > 0 and lane + ROWS > lanes:
                                        leaf_tile(LAST, columns_at, sums, sums, NONE, nest)
                                    else:
                                        leaf_tile(TILE, columns_at, sums, sums, NONE, nest)
                top = tree_add(base, level, top, run, level // (4 * LANES))
            copy_gradient(stack[worker, 0], gradient, kg * VECTORS, VECTORS, u0, u1, cb0, cb1)

    return conv_backward_weights


@inline
def copy_gradient(block, gradient, first_vector, vectors, u0, u1, cb0, cb1):
    """Copy a block [R, C/LANES, S, LANES, vector * LANES] into the blocked weights."""
    per_group = gradient.shape[5] // LANES
    for u in range(u0, u1):
        for cb in range(cb0, cb1):
            for j in range(vectors):
                group, vector = divmod(first_vector + j, per_group)
                for v in range(gradient.shape[3]):
                    for lane in range(LANES):
                        target = gradient[group, cb, u, v, lane].ctypes.data + 4 * vector * LANES
                        copy_vectors(target, block[u - u0, cb - cb0, v, lane].ctypes.data + 4 * j * LANES, 1)


def bias_gradient(threads: Threads, dy, stack, gradient, leaves: int) -> None:
    """Write the sum of dy over samples and pixels: runs and leaves as a tree.

    Parameters
    ----------
    stack : float32 [threads, stack_depth(runs of all leaves), LANES]
        Working memory.
    gradient : float32 [K rounded up to LANES]
    """
    cut = runs_of_leaf(len(dy) // leaves, *dy.shape[2:4])
    threads.run(_bias_gradient(), dy.shape[1], dy.size, dy, ONE, stack, gradient, leaves, cut)


ONE_VECTOR = Tile(rows=1, vectors=1, a_row=1, start=LOAD)


@lru_cache
def _bias_gradient():
    @kernel(int64, int64, int64, IMAGE, float32[::1], float32[:, :, ::1], float32[::1], int64, int64)
    def conv_bias_gradient(worker, first, last, dy, one, stack, gradient, leaves, cut):
        per_leaf, rows, columns = dy.shape[0] // leaves, dy.shape[2], dy.shape[3]
        row = dy.strides[2] // 4
        base, level = stack.ctypes.data + worker * stack.strides[0], stack.strides[1]
        for block in range(first, last):
            top = 0
            for run in range(leaves * cut):
                first_row, end_row = rows_of_run(run, cut, per_leaf, rows)
                stack[worker, top] = 0
                for n in range(first_row // rows, ceil_div(end_row, rows)):
                    i0, i1 = max(0, first_row - n * rows), min(rows, end_row - n * rows)
                    multiply_tile(
                        ONE_VECTOR, one.ctypes.data, Vectors(row_address(dy, n, block, i0), LANES),
                        Sums(base + top * level, row=LANES, vector=LANES),
                        (Loop(i1 - i0, 0, row), Loop(columns, 0, LANES)),
                    )  # fmt: skip
                top = tree_add(base, level, top, run, 1)
            for k in range(LANES):
                gradient[block * LANES + k] = stack[worker, 0, k]

    return conv_bias_gradient
