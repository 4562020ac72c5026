"""Direct convolution on the register tile: forward, backward_data and backward_weights.

Any kernel size, stride and padding. The tile walks along an image row; rows outside the image are
skipped, columns outside it are the zero halo that the rows of x (or dy) have in memory.
"""

from functools import lru_cache

import numpy as np
from numba import float32, int64

from layers.arithmetic import ceil_div
from layers.kernels.caches import band_rows
from layers.kernels.epilogue import PLAIN, RELU, RELU_POOL, TAPS, Epilogue, pool_rows
from layers.kernels.jit import inline, kernel
from layers.kernels.leaves import stack_depth, tree_add
from layers.kernels.register_tile import (
    BIAS,
    BIAS_RELU,
    LOAD,
    NO_BIAS,
    TILE_ROWS,
    Loop,
    Scalars,
    Sums,
    Tile,
    Vectors,
    multiply_tile,
    multiply_tiles,
)
from layers.kernels.rows import IMAGE, row_address
from layers.kernels.simd import LANES, REGISTERS
from layers.kernels.threads import Threads
from layers.kernels.tiling import split_rows

WEIGHT = float32[:, :, :, :, :, ::1]
ONE = np.ones(1, np.float32)  # a sum is a product with ones on the register tile
NO_ROWS = np.zeros((1, LANES), np.float32)  # stands for working memory where none is needed
L2_BYTES = 512 * 1024  # most partial sums of one task; the tree keeps a few of these
TASKS_PER_THREAD = 4  # at least: waiting for the last task to end costs a quarter of the time at most


def pooling_rows_shape(columns: int, vectors: int, threads: int) -> tuple[int, int]:
    """Return the shape of the working memory of a pooling `forward`: two rows of some channels a thread."""
    return threads, 2 * vectors * columns * LANES


def forward(
    threads: Threads,
    x,
    weight,
    bias,
    y,
    channels: int,
    stride: int,
    padding: tuple[int, int],
    *,
    epilogue: Epilogue = PLAIN,
    pooling_rows=NO_ROWS,
) -> None:
    """Write y = bias + the sum over (input block, kernel row, kernel column, lane), in that order.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES]
        With zero columns beside its rows, as many as the kernel reaches beyond them.
    weight : float32 [K/(V*LANES), C/LANES, R, S, LANES, V*LANES]
    bias : float32 [K rounded up to LANES]
    y : float32 [N, K/LANES, OH, OW, LANES]
        Half the rows and columns where the epilogue pools.
    channels : int
        Input channels that are not padding.
    epilogue : Epilogue
        What becomes of the sums.
    pooling_rows : float32, shape from `pooling_rows_shape`
        Working memory, where the epilogue pools.
    """
    samples, _, rows, columns, _ = y.shape
    groups, _, r, s, _, width = weight.shape
    window = epilogue.window
    work = 2 * y.size * window * window * min(channels, x.shape[1] * LANES) * r * s
    run = _forward(*split_rows(window * columns, TILE_ROWS), width // LANES, stride, epilogue.kind)
    used = min(channels, LANES)
    threads.run(
        run, groups * samples * rows, work, x, weight, bias, y, epilogue.argmax, pooling_rows, used, *padding
    )


@lru_cache
def _forward(ROWS, TAIL, VECTORS, STRIDE, EPILOGUE):
    PIXEL = STRIDE * LANES  # from the x of one pixel of y to that of the next
    WINDOW = 2 if EPILOGUE == RELU_POOL else 1
    TILE = Tile(ROWS, VECTORS, PIXEL, BIAS_RELU if EPILOGUE == RELU else BIAS, TAIL)

    @kernel(
        int64, int64, int64, IMAGE, WEIGHT, float32[::1], IMAGE, TAPS, float32[:, ::1], int64, int64, int64
    )
    def conv_forward(worker, first, last, x, weight, bias, y, argmax, pooling_rows, used, pad_h, pad_w):
        samples, rows, columns = y.shape[0], y.shape[2], WINDOW * y.shape[3]
        c_blocks, height = x.shape[1], x.shape[2]
        r, s = weight.shape[2], weight.shape[3]
        x_block, x_row = x.strides[1] // 4, x.strides[2] // 4
        w_block, w_row, w_tap, w_lane = (
            weight.strides[1] // 4, weight.strides[2] // 4, weight.strides[3] // 4, weight.strides[4] // 4,
        )  # fmt: skip
        pair = pooling_rows.ctypes.data + worker * pooling_rows.strides[0]
        for task in range(first, last):  # one row of y of one group of channels
            group, rest = divmod(task, samples * rows)
            n, i = divmod(rest, rows)
            for half in range(WINDOW):
                top = (WINDOW * i + half) * STRIDE - pad_h
                u0, u1 = max(0, -top), min(r, height - top)
                a = x.ctypes.data + n * x.strides[0] + (top + u0) * x.strides[2] - 4 * pad_w * LANES
                b = weight.ctypes.data + group * weight.strides[0] + u0 * weight.strides[2]
                c = y.ctypes.data + n * y.strides[0] + group * VECTORS * y.strides[1] + i * y.strides[2]
                c_vector = y.strides[1] // 4
                if WINDOW == 2:
                    c = pair + 4 * half * VECTORS * columns * LANES
                    c_vector = columns * LANES
                multiply_tiles(
                    TILE, columns // ROWS,
                    Scalars(a, tile=ROWS * PIXEL), Vectors(b, LANES), Sums(c, row=LANES, vector=c_vector),
                    bias.ctypes.data + 4 * group * VECTORS * LANES,
                    (
                        Loop(c_blocks, x_block, w_block),
                        Loop(u1 - u0, x_row, w_row),
                        Loop(s, LANES, w_tap),
                        Loop(used, 1, w_lane),
                    ),
                )  # fmt: skip
            if WINDOW == 2:
                for vector in range(VECTORS):
                    upper = pair + 4 * vector * columns * LANES
                    block = group * VECTORS + vector
                    pool_rows(
                        upper, upper + 4 * VECTORS * columns * LANES, y.shape[3],
                        row_address(y, n, block, i), row_address(argmax, n, block, i),
                    )  # fmt: skip

    return conv_forward


def transpose_weights(threads: Threads, weight, transposed, first_block: int = 0) -> None:
    """Write the weights with vectors along c: ``[C/(V*LANES), K/LANES, R, S, LANES, V*LANES]``.

    Of the output channels from block `first_block` on, as many blocks as `transposed` holds.
    """
    tasks = transposed.shape[1] * weight.shape[1]
    threads.run(_transpose(), tasks, transposed.size, weight, transposed, first_block)


def backward_data(threads: Threads, dy, transposed, dx, stride: int, padding: tuple[int, int]) -> None:
    """Write dx; the sum runs over (output block, kernel row, kernel column, lane), in that order.

    With a stride s, the input columns of each residue modulo s form a convolution of their own over
    consecutive columns of dy.

    Parameters
    ----------
    dy : float32 [N, K/LANES, OH, OW, LANES]
        With zero columns beside its rows, as many as the kernel reaches beyond them.
    transposed : float32 [C/(V*LANES), K/LANES, R, S, LANES, V*LANES]
        The weights as `transpose_weights` writes them.
    dx : float32 [N, C/LANES, H, W, LANES]
    """
    samples, _, rows, columns, _ = dx.shape
    groups, k_blocks, r, s, _, width = transposed.shape
    work = 2 * dx.size * k_blocks * LANES * r * s // (stride * stride)
    for phase in range(min(stride, columns)):
        run = _backward_data(
            *split_rows(ceil_div(columns - phase, stride), TILE_ROWS), width // LANES, stride
        )
        threads.run(run, groups * samples * rows, work, dy, transposed, dx, phase, padding[0], padding[1])


@lru_cache
def _backward_data(ROWS, TAIL, VECTORS, STRIDE):
    TILE = Tile(ROWS, VECTORS, LANES, tail=TAIL)

    @kernel(int64, int64, int64, IMAGE, WEIGHT, IMAGE, int64, int64, int64)
    def conv_backward_data(worker, first, last, dy, weight, dx, phase, pad_h, pad_w):
        samples, rows, columns = dx.shape[0], dx.shape[2], dx.shape[3]
        k_blocks, out_rows = dy.shape[1], dy.shape[2]
        r, s = weight.shape[2], weight.shape[3]
        dy_block, dy_row = dy.strides[1] // 4, dy.strides[2] // 4
        w_block, w_row, w_tap, w_lane = (
            weight.strides[1] // 4, weight.strides[2] // 4, weight.strides[3] // 4, weight.strides[4] // 4,
        )  # fmt: skip
        dx_block = dx.strides[1] // 4
        v0 = (phase + pad_w) % STRIDE  # first kernel column that meets these input columns
        taps = max(0, (s - v0 + STRIDE - 1) // STRIDE)
        full = ceil_div(columns - phase, STRIDE) // ROWS
        for task in range(first, last):  # the phase's columns of one input row of one group of channels
            group, rest = divmod(task, samples * rows)
            n, i = divmod(rest, rows)
            u0 = (i + pad_h) % STRIDE
            bottom = (i + pad_h - u0) // STRIDE  # the output row that kernel row u0 meets
            t0 = max(0, bottom - out_rows + 1)
            t1 = min((r - u0 + STRIDE - 1) // STRIDE, bottom + 1)
            a = (
                dy.ctypes.data + n * dy.strides[0] + (bottom - t0) * dy.strides[2]
                + 4 * ((phase + pad_w - v0) // STRIDE) * LANES
            )  # fmt: skip
            b = (
                weight.ctypes.data + group * weight.strides[0] + (u0 + t0 * STRIDE) * weight.strides[2]
                + v0 * weight.strides[3]
            )  # fmt: skip
            c = (
                dx.ctypes.data + n * dx.strides[0] + group * VECTORS * dx.strides[1] + i * dx.strides[2]
                + 4 * phase * LANES
            )  # fmt: skip
            multiply_tiles(
                TILE, full,
                Scalars(a, tile=ROWS * LANES), Vectors(b, LANES),
                Sums(c, row=STRIDE * LANES, vector=dx_block), NO_BIAS,
                (
                    Loop(k_blocks, dy_block, w_block),
                    Loop(t1 - t0, -dy_row, STRIDE * w_row),
                    Loop(taps, -LANES, STRIDE * w_tap),
                    Loop(LANES, 1, w_lane),
                ),
            )  # fmt: skip

    return conv_backward_data


@lru_cache
def _transpose():
    @kernel(int64, int64, int64, WEIGHT, WEIGHT, int64)
    def conv_transpose_weights(worker, first, last, weight, transposed, first_block):
        c_blocks, r, s = weight.shape[1], weight.shape[2], weight.shape[3]
        per_group, per_group_t = weight.shape[5] // LANES, transposed.shape[5] // LANES
        for task in range(first, last):  # one block of output channels and one of input channels
            kb, cb = divmod(task, c_blocks)
            kg, kv = divmod(first_block + kb, per_group)
            cg, cv = divmod(cb, per_group_t)
            for u in range(r):
                for v in range(s):
                    for k in range(LANES):
                        for c in range(LANES):
                            transposed[cg, kb, u, v, k, cv * LANES + c] = weight[
                                kg, cb, u, v, c, kv * LANES + k
                            ]

    return conv_transpose_weights


def weight_tile(k_blocks: int, c_blocks: int, channels: int) -> tuple[int, int]:
    """Return (rows, vectors) of the tile of backward_weights: input channels by output vectors.

    4 x 4 needs the fewest loads for each multiply-add; narrower tiles leave small layers enough tasks.
    """
    rows = min(4, channels)
    if REGISTERS == 32 and k_blocks % 4 == 0 and k_blocks * c_blocks >= 32:
        return rows, 4
    if REGISTERS == 32 and LANES % 8 == 0 and channels >= LANES:
        rows = 8
    return rows, 2 if k_blocks % 2 == 0 else 1


def weight_block(
    k_blocks: int, c_blocks: int, channels: int, kernel: tuple[int, int], threads: int
) -> tuple[int, int]:
    """Return (kernel rows, input blocks) of one task of backward_weights.

    A task reads dy once for all its partial sums, so it has many: all kernel rows and up to 4 blocks of input
    channels, but no more than fit the L2 cache, and fewer where there would be too few tasks.
    """
    _, vectors = weight_tile(k_blocks, c_blocks, channels)
    groups = k_blocks // vectors
    rows, blocks = kernel[0], min(4, c_blocks)
    block_bytes = 4 * kernel[0] * kernel[1] * LANES * vectors * LANES
    while blocks > 1 and (
        blocks * block_bytes > L2_BYTES or groups * ceil_div(c_blocks, blocks) < TASKS_PER_THREAD * threads
    ):
        blocks = ceil_div(blocks, 2)
    if groups * ceil_div(c_blocks, blocks) < TASKS_PER_THREAD * threads:
        rows = 1
    return rows, blocks


def weight_stack_shape(
    k_blocks: int, c_blocks: int, channels: int, kernel: tuple[int, int], leaves: int, threads: int
) -> tuple[int, ...]:
    """Return the shape of the partial sums of backward_weights, one stack a thread."""
    _, vectors = weight_tile(k_blocks, c_blocks, channels)
    rows, blocks = weight_block(k_blocks, c_blocks, channels, kernel, threads)
    return threads, stack_depth(leaves), rows, blocks, kernel[1], LANES, vectors * LANES


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
) -> None:
    """Write the gradient: inside a leaf over (sample, row, column), in that order; leaves as a tree.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES]
        With the halo of `forward`.
    dy : float32 [N, K/LANES, OH, OW, LANES]
    stack : float32, shape from `weight_stack_shape`
        Working memory.
    gradient : float32 [K/(V*LANES), C/LANES, R, S, LANES, V*LANES]
    """
    k_blocks, c_blocks, kernel_shape = dy.shape[1], x.shape[1], gradient.shape[2:4]
    rows, vectors = weight_tile(k_blocks, c_blocks, channels)
    taps, blocks = stack.shape[2:4]
    work = 2 * dy.size * channels * kernel_shape[0] * kernel_shape[1]
    run = _backward_weights(rows, vectors, stride)
    used = min(channels, LANES)
    tasks = k_blocks // vectors * ceil_div(c_blocks, blocks) * ceil_div(kernel_shape[0], taps)
    band = band_rows(dy.shape[3], vectors * LANES)
    threads.run(run, tasks, work, x, dy, stack, gradient, used, padding[0], padding[1], leaves, band)


@inline
def _clip(u, pad_h, stride, height, rows):
    """Return the range of output rows for which kernel row `u` lies inside the image."""
    low = max(0, -((u - pad_h) // stride))  # the smallest i with i * stride + u - pad_h >= 0
    high = min(rows, (height - 1 + pad_h - u) // stride + 1)
    return low, max(low, high)


@lru_cache
def _backward_weights(ROWS, VECTORS, STRIDE):
    WIDTH = VECTORS * LANES
    TILE = Tile(ROWS, VECTORS, a_row=1, start=LOAD)

    @kernel(
        int64, int64, int64, IMAGE, IMAGE, float32[:, :, :, :, :, :, ::1], WEIGHT,
        int64, int64, int64, int64, int64,
    )  # fmt: skip
    def conv_backward_weights(worker, first, last, x, dy, stack, gradient, used, pad_h, pad_w, leaves, band):
        samples, rows, columns = dy.shape[0], dy.shape[2], dy.shape[3]
        c_blocks, height = x.shape[1], x.shape[2]
        r, s = gradient.shape[2], gradient.shape[3]
        taps, blocks = stack.shape[2], stack.shape[3]
        x_row, dy_row, dy_block = x.strides[2] // 4, dy.strides[2] // 4, dy.strides[1] // 4
        per_leaf = samples // leaves
        vectors_of_group = gradient.shape[5] // LANES
        level = stack.strides[1]
        base = stack.ctypes.data + worker * stack.strides[0]
        for task in range(first, last):  # kernel rows and input blocks of one group of output channels
            kg, rest = divmod(task, ceil_div(c_blocks, blocks) * ceil_div(r, taps))
            cg, ug = divmod(rest, ceil_div(r, taps))
            cb0, u0 = cg * blocks, ug * taps
            cb1, u1 = min(c_blocks, cb0 + blocks), min(r, u0 + taps)
            top = 0
            for leaf in range(leaves):
                stack[worker, top] = 0
                for n in range(leaf * per_leaf, (leaf + 1) * per_leaf):
                    for i0 in range(0, rows, band):  # a band: rows of dy that stay in the L1 cache
                        for u in range(u0, u1):
                            low, high = _clip(u, pad_h, STRIDE, height, rows)
                            low, high = max(low, i0), min(high, i0 + band)
                            if low >= high:
                                continue
                            b = (
                                dy.ctypes.data + n * dy.strides[0] + kg * VECTORS * dy.strides[1]
                                + low * dy.strides[2]
                            )  # fmt: skip
                            for cb in range(cb0, cb1):
                                a = (
                                    x.ctypes.data + n * x.strides[0] + cb * x.strides[1]
                                    + (low * STRIDE + u - pad_h) * x.strides[2] - 4 * pad_w * LANES
                                )  # fmt: skip
                                partial = (
                                    base + top * level + (u - u0) * stack.strides[2]
                                    + (cb - cb0) * stack.strides[3]
                                )  # fmt: skip
                                for v in range(s):
                                    for lane in range(0, used, ROWS):
                                        at = v * LANES + lane
                                        multiply_tile(
                                            TILE, a + 4 * at, Vectors(b, dy_block),
                                            Sums(partial + 4 * at * WIDTH, row=WIDTH, vector=LANES),
                                            (
                                                Loop(high - low, STRIDE * x_row, dy_row),
                                                Loop(columns, STRIDE * LANES, LANES),
                                            ),
                                        )  # fmt: skip
                top = tree_add(base, level, top, leaf, level // (4 * LANES))
            for u in range(u0, u1):
                for cb in range(cb0, cb1):
                    for j in range(VECTORS):
                        group, vector = divmod(kg * VECTORS + j, vectors_of_group)
                        for v in range(s):
                            for lane in range(LANES):
                                for k in range(LANES):
                                    gradient[group, cb, u, v, lane, vector * LANES + k] = stack[
                                        worker, 0, u - u0, cb - cb0, v, lane, j * LANES + k
                                    ]

    return conv_backward_weights


def bias_gradient(threads: Threads, dy, stack, gradient, leaves: int) -> None:
    """Write the sum of dy over samples and pixels: leaves as a tree.

    Parameters
    ----------
    stack : float32 [threads, stack_depth(leaves), LANES]
        Working memory.
    gradient : float32 [K rounded up to LANES]
    """
    threads.run(_bias_gradient(), dy.shape[1], dy.size, dy, ONE, stack, gradient, leaves)


ONE_VECTOR = Tile(rows=1, vectors=1, a_row=1)


@lru_cache
def _bias_gradient():
    @kernel(int64, int64, int64, IMAGE, float32[::1], float32[:, :, ::1], float32[::1], int64)
    def conv_bias_gradient(worker, first, last, dy, one, stack, gradient, leaves):
        per_leaf, rows, columns = dy.shape[0] // leaves, dy.shape[2], dy.shape[3]
        sample, row = dy.strides[0] // 4, dy.strides[2] // 4
        base, level = stack.ctypes.data + worker * stack.strides[0], stack.strides[1]
        dy_at, one_at = dy.ctypes.data, one.ctypes.data
        for block in range(first, last):
            top = 0
            for leaf in range(leaves):
                b = dy_at + leaf * per_leaf * dy.strides[0] + block * dy.strides[1]
                multiply_tile(
                    ONE_VECTOR, one_at, Vectors(b, LANES), Sums(base + top * level, row=LANES, vector=LANES),
                    (Loop(per_leaf, 0, sample), Loop(rows, 0, row), Loop(columns, 0, LANES)),
                )  # fmt: skip
                top = tree_add(base, level, top, leaf, 1)
            for k in range(LANES):
                gradient[block * LANES + k] = stack[worker, 0, k]

    return conv_bias_gradient


def halo(width: int, out_columns: int, kernel_columns: int, stride: int, padding: int) -> tuple[int, int]:
    """Return the zero columns that forward reads left and right of an image row."""
    return padding, max(0, (out_columns - 1) * stride + kernel_columns - padding - width)


def gradient_halo(
    width: int, out_columns: int, kernel_columns: int, stride: int, padding: int
) -> tuple[int, int]:
    """Return the zero columns that backward_data reads left and right of a row of dy."""
    left = max(0, (kernel_columns - 1 - padding) // stride)
    return left, max(0, (width - 1 + padding) // stride - (out_columns - 1))
