"""Direct convolution on the register tile: forward and backward_data.

Any kernel size, stride and padding. The tile walks along an image row; rows outside the image are
skipped, columns outside it are the zero halo that the rows of x (or dy) have in memory.
"""

from functools import lru_cache

import numpy as np
from numba import float32, int64

from layers.arithmetic import ceil_div
from layers.kernels.direct_tile import DirectTile, TapLoop, Taps, direct_tile, groups_together, rows_of_tiles
from layers.kernels.epilogue import PLAIN, RELU, RELU_POOL, TAPS, Epilogue, pool_rows
from layers.kernels.flush_mode import begin_flushing, end_flushing
from layers.kernels.jit import kernel
from layers.kernels.register_tile import BIAS, BIAS_RELU, NO_BIAS, Sums
from layers.kernels.residues import first_positions, step_and_fall
from layers.kernels.rows import IMAGE, row_address
from layers.kernels.simd import LANES, WIDTH, transpose
from layers.kernels.threads import Threads

WEIGHT = float32[:, :, :, :, :, ::1]
NO_ROWS = np.zeros((1, LANES), np.float32)  # stands for working memory where none is needed


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
    dilation: int = 1,
    epilogue: Epilogue = PLAIN,
    pooling_rows=NO_ROWS,
    paired: bool = False,
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
    paired : bool
        x and weight hold bf16 values: two input blocks together, and the sums of `paired_tile`. y is
        rounded to bf16, before it is pooled.
    """
    samples, _, rows, columns, _ = y.shape
    groups, _, r, s, _, width = weight.shape
    window = epilogue.window
    work = 2 * y.size * window * window * min(channels, x.shape[1] * LANES) * r * s
    tile_rows, tail = rows_of_tiles(window * columns, paired=paired)
    together = groups_together(tile_rows, width // LANES, groups, paired=paired) if window == 1 else 1
    run = _forward(tile_rows, tail, width // LANES, together, stride, epilogue.kind, dilation, paired)
    tasks = groups // together * samples * rows
    threads.run(
        run,
        tasks,
        work,
        x,
        weight,
        bias,
        y,
        epilogue.argmax,
        pooling_rows,
        x.shape[1] * LANES if paired else channels,
        *padding,
    )


@lru_cache
def _forward(ROWS, TAIL, PER_GROUP, TOGETHER, STRIDE, EPILOGUE, DILATION=1, PAIRED=False):
    VECTORS = PER_GROUP * TOGETHER
    PIXEL = STRIDE * LANES  # from the x of one pixel of y to that of the next
    WINDOW = 2 if EPILOGUE == RELU_POOL else 1
    START = BIAS_RELU if EPILOGUE == RELU else BIAS
    TILE = DirectTile(ROWS, PER_GROUP, TOGETHER, PIXEL, START, PAIRED, rounds=PAIRED)
    LAST = DirectTile(TAIL or ROWS, PER_GROUP, TOGETHER, PIXEL, START, PAIRED, rounds=PAIRED)

    @kernel(
        int64, int64, int64, IMAGE, WEIGHT, float32[::1], IMAGE, TAPS, float32[:, ::1], int64, int64, int64
    )
    def conv_forward(worker, first, last, x, weight, bias, y, argmax, pooling_rows, channels, pad_h, pad_w):
        samples, rows, columns = y.shape[0], y.shape[2], WINDOW * y.shape[3]
        height = x.shape[2]
        r, s = weight.shape[2], weight.shape[3]
        x_block, x_row = x.strides[1] // 4, x.strides[2] // 4
        w_group, w_block, w_row, w_tap, w_lane = (
            weight.strides[0] // 4,
            weight.strides[1] // 4, weight.strides[2] // 4, weight.strides[3] // 4, weight.strides[4] // 4,
        )  # fmt: skip
        pair = pooling_rows.ctypes.data + worker * pooling_rows.strides[0]
        if PAIRED:
            begin_flushing()
        for task in range(first, last):  # one row of y of one group of channels
            group, rest = divmod(task, samples * rows)
            n, i = divmod(rest, rows)
            for half in range(WINDOW):
                top = (WINDOW * i + half) * STRIDE - pad_h
                u0 = max(0, ceil_div(-top, DILATION))
                u1 = min(r, ceil_div(height - top, DILATION))
                first = top + u0 * DILATION
                a = x.ctypes.data + n * x.strides[0] + first * x.strides[2] - 4 * pad_w * LANES
                b = weight.ctypes.data + group * TOGETHER * weight.strides[0] + u0 * weight.strides[2]
                c = y.ctypes.data + n * y.strides[0] + group * VECTORS * y.strides[1] + i * y.strides[2]
                c_vector = y.strides[1] // 4
                if WINDOW == 2:
                    c = pair + 4 * half * VECTORS * columns * LANES
                    c_vector = columns * LANES
                bias_at = bias.ctypes.data + 4 * group * VECTORS * LANES
                nest = (
                    TapLoop(channels // LANES, x_block, w_block, x_block),
                    # kernel rows inside the image
                    TapLoop(u1 - u0, DILATION * x_row, w_row, DILATION * x_row),
                    TapLoop(s, DILATION * LANES, w_tap, 0),  # kernel columns
                    TapLoop(LANES, 1, w_lane, LANES),
                )
                for tile in range(columns // ROWS):
                    at = a + 4 * tile * ROWS * PIXEL
                    sums = Sums(c + 4 * tile * ROWS * LANES, row=LANES, vector=c_vector)
                    taps = Taps(at, b, w_group, at + 4 * x_block)
                    direct_tile(TILE, taps, sums, bias_at, nest, channels % LANES)
                if TAIL > 0:
                    done = columns // ROWS * ROWS
                    at = a + 4 * done * PIXEL
                    sums = Sums(c + 4 * done * LANES, row=LANES, vector=c_vector)
                    taps = Taps(at, b, w_group, at + 4 * x_block)
                    direct_tile(LAST, taps, sums, bias_at, nest, channels % LANES)
            if WINDOW == 2:
                for vector in range(VECTORS):
                    upper = pair + 4 * vector * columns * LANES
                    block = group * VECTORS + vector
                    pool_rows(
                        upper, upper + 4 * VECTORS * columns * LANES, y.shape[3],
                        row_address(y, n, block, i), row_address(argmax, n, block, i),
                    )  # fmt: skip
        if PAIRED:
            end_flushing()

    return conv_forward


def transpose_weights(threads: Threads, weight, transposed, first_block: int = 0) -> None:
    """Write the weights with vectors along c: ``[C/(V*LANES), K/LANES, R, S, LANES, V*LANES]``.

    Of the output channels from block `first_block` on, as many blocks as `transposed` holds.
    """
    tasks = transposed.shape[1] * weight.shape[1]
    threads.run(_transpose(), tasks, transposed.size, weight, transposed, first_block)


def backward_data(
    threads: Threads,
    dy,
    transposed,
    dx,
    channels: int,
    stride: int,
    padding: tuple[int, int],
    dilation: int = 1,
    *,
    paired: bool = False,
) -> None:
    """Write dx; the sum runs over (output block, row and column of dy, lane), in that order.

    Rows and columns of dy ascend, so the kernel's fall: caches fetch ahead upwards.

    With a stride s, the input columns of each residue modulo s form a convolution of their own over
    consecutive columns of dy.

    Parameters
    ----------
    dy : float32 [N, K/LANES, OH, OW, LANES]
        With zero columns beside its rows, as many as the kernel reaches beyond them.
    transposed : float32 [C/(V*LANES), K/LANES, R, S, LANES, V*LANES]
        The weights as `transpose_weights` writes them.
    dx : float32 [N, C/LANES, H, W, LANES]
    channels : int
        Output channels that are not padding.
    paired : bool
        As for `forward`, of dy and its blocks.
    """
    samples, _, rows, columns, _ = dx.shape
    groups, k_blocks, r, s, _, width = transposed.shape
    work = 2 * dx.size * k_blocks * LANES * r * s // (stride * stride)
    for phase in range(min(stride, columns)):
        tile_rows, tail = rows_of_tiles(ceil_div(columns - phase, stride), paired=paired)
        together = groups_together(tile_rows, width // LANES, groups, paired=paired)
        run = _backward_data(tile_rows, tail, width // LANES, together, stride, dilation, paired)
        tasks = groups // together * samples * rows
        terms = k_blocks * LANES if paired else channels
        threads.run(run, tasks, work, dy, transposed, dx, terms, phase, *padding)


@lru_cache
def _backward_data(ROWS, TAIL, PER_GROUP, TOGETHER, STRIDE, DILATION=1, PAIRED=False):
    VECTORS = PER_GROUP * TOGETHER
    STEP, FALL = step_and_fall(STRIDE, DILATION)
    FIRST = first_positions(STRIDE, DILATION)
    TILE = DirectTile(ROWS, PER_GROUP, TOGETHER, LANES, paired=PAIRED)
    LAST = DirectTile(TAIL or ROWS, PER_GROUP, TOGETHER, LANES, paired=PAIRED)

    @kernel(int64, int64, int64, IMAGE, WEIGHT, IMAGE, int64, int64, int64, int64)
    def conv_backward_data(worker, first, last, dy, weight, dx, channels, phase, pad_h, pad_w):
        samples, rows, columns = dx.shape[0], dx.shape[2], dx.shape[3]
        out_rows = dy.shape[2]
        r, s = weight.shape[2], weight.shape[3]
        dy_block, dy_row = dy.strides[1] // 4, dy.strides[2] // 4
        w_group, w_block, w_row, w_tap, w_lane = (
            weight.strides[0] // 4,
            weight.strides[1] // 4, weight.strides[2] // 4, weight.strides[3] // 4, weight.strides[4] // 4,
        )  # fmt: skip
        dx_block = dx.strides[1] // 4
        v0 = FIRST[(phase + pad_w) % STRIDE]  # first kernel column that meets these input columns
        taps = max(0, (s - v0 + STEP - 1) // STEP)
        right = (phase + pad_w - v0 * DILATION) // STRIDE  # the output column that it meets first
        full = ceil_div(columns - phase, STRIDE) // ROWS
        if PAIRED:
            begin_flushing()
        for task in range(first, last):  # the phase's columns of one input row of one group of channels
            group, rest = divmod(task, samples * rows)
            n, i = divmod(rest, rows)
            u0 = FIRST[(i + pad_h) % STRIDE]
            bottom = (i + pad_h - u0 * DILATION) // STRIDE  # the output row that kernel row u0 meets
            t0 = max(0, ceil_div(bottom - out_rows + 1, FALL))
            t1 = min((r - u0 + STEP - 1) // STEP, bottom // FALL + 1)
            a = (
                dy.ctypes.data + n * dy.strides[0] + (bottom - (t1 - 1) * FALL) * dy.strides[2]
                + 4 * (right - (taps - 1) * FALL) * LANES
            )  # fmt: skip
            b = (
                weight.ctypes.data + group * TOGETHER * weight.strides[0]
                + (u0 + (t1 - 1) * STEP) * weight.strides[2]
                + (v0 + (taps - 1) * STEP) * weight.strides[3]
            )  # fmt: skip
            c = (
                dx.ctypes.data + n * dx.strides[0] + group * VECTORS * dx.strides[1] + i * dx.strides[2]
                + 4 * phase * LANES
            )  # fmt: skip
            nest = (
                TapLoop(channels // LANES, dy_block, w_block, dy_block),
                # Every STEP-th kernel row meets a row of dy, and every STEP-th kernel column.
                TapLoop(t1 - t0, FALL * dy_row, -STEP * w_row, FALL * dy_row),
                TapLoop(taps, FALL * LANES, -STEP * w_tap, 0),
                TapLoop(LANES, 1, w_lane, LANES),
            )
            for tile in range(full):
                at = a + 4 * tile * ROWS * LANES
                sums = Sums(c + 4 * tile * ROWS * STRIDE * LANES, row=STRIDE * LANES, vector=dx_block)
                soon = Taps(at, b, w_group, at + 4 * dy_block)
                direct_tile(TILE, soon, sums, NO_BIAS, nest, channels % LANES)
            if TAIL > 0:
                at = a + 4 * full * ROWS * LANES
                sums = Sums(c + 4 * full * ROWS * STRIDE * LANES, row=STRIDE * LANES, vector=dx_block)
                soon = Taps(at, b, w_group, at + 4 * dy_block)
                direct_tile(LAST, soon, sums, NO_BIAS, nest, channels % LANES)
        if PAIRED:
            end_flushing()

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
            to = transposed.ctypes.data + cg * transposed.strides[0] + kb * transposed.strides[1]
            of = weight.ctypes.data + kg * weight.strides[0] + cb * weight.strides[1]
            for tap in range(r * s):
                target = to + tap * transposed.strides[3] + 4 * cv * LANES
                source = of + tap * weight.strides[3] + 4 * kv * LANES
                for k in range(0, LANES, WIDTH):
                    for c in range(0, LANES, WIDTH):
                        transpose(
                            target + k * transposed.strides[4] + 4 * c, transposed.shape[5],
                            source + c * weight.strides[4] + 4 * k, weight.shape[5],
                        )  # fmt: skip

    return conv_transpose_weights


def halo(width: int, out_columns: int, kernel_columns: int, stride: int, padding: int) -> tuple[int, int]:
    """Return the zero columns that forward reads left and right of an image row.

    A dilated kernel has as many columns as lie from its first to its last.
    """
    return padding, max(0, (out_columns - 1) * stride + kernel_columns - padding - width)


def gradient_halo(
    width: int, out_columns: int, kernel_columns: int, stride: int, padding: int
) -> tuple[int, int]:
    """Return the zero columns that backward_data reads left and right of a row of dy."""
    left = max(0, (kernel_columns - 1 - padding) // stride)
    return left, max(0, (width - 1 + padding) // stride - (out_columns - 1))
