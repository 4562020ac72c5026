"""A convolution of few channels as a product: the pixels that each tap meets, side by side as channels.

Channel ``(u * S + v) * C + c`` of a patch is channel c of the pixel that tap (u, v) meets, as a bf16 value.
So a convolution of R x S taps becomes one of 1 x 1, and a sum over taps and channels is one run of terms.
"""

from functools import lru_cache

from numba import float32, int64

from layers.arithmetic import ceil_div
from layers.kernels.bf16 import clear, round_row
from layers.kernels.conv_direct import WEIGHT
from layers.kernels.jit import inline, kernel
from layers.kernels.rows import IMAGE, row_address
from layers.kernels.simd import LANES, copy_vectors
from layers.kernels.threads import Threads

VECTOR_BYTES = 4 * LANES
_PIXELS = 32  # laid side by side before they go to their blocks: what is just stored is not loaded at once


def blocks(channels: int, kernel: tuple[int, int]) -> int:
    """Return the blocks of channels of a patch."""
    return ceil_div(kernel[0] * kernel[1] * channels, LANES)


def room(
    channels: int, kernel: tuple[int, int], stride: int, dilation: int, columns: int, threads: int
) -> tuple[int, int]:
    """Return the shape of the working memory of `make_patches`; `columns` of the convolution's result."""
    lines = kernel[0] * _line_floats(channels, kernel, stride, dilation, columns)
    return threads, lines + (_PIXELS * blocks(channels, kernel) + 1) * LANES


def _line_floats(channels: int, kernel: tuple[int, int], stride: int, dilation: int, columns: int) -> int:
    """Return the floats of a row that all columns meet, and of a vector behind it, which is read in vain."""
    return ((columns - 1) * stride + (kernel[1] - 1) * dilation + 1) * channels + LANES


def make_patches(
    threads: Threads,
    x,
    patches,
    channels: int,
    kernel: tuple[int, int],
    stride: int,
    padding: tuple[int, int],
    dilation: int,
    memory,
) -> None:
    """Write the patches of all pixels of a convolution's result; absent pixels and channels are zero.

    Parameters
    ----------
    x : float32 [N, C/L, H, W, L]
        L is LANES, or the number of channels.
    patches : float32 [N, blocks(C, kernel), OH, OW, LANES]
    memory : float32, shape from `room`
        Working memory.
    """
    tasks = patches.shape[0] * patches.shape[2]
    line = _line_floats(channels, kernel, stride, dilation, patches.shape[3])
    threads.run(
        _make(), tasks, patches.size, x, patches, channels, *kernel, stride, *padding, dilation, line, memory
    )


@lru_cache(maxsize=1)
def _make():
    @kernel(
        int64, int64, int64, IMAGE, IMAGE, int64, int64, int64, int64, int64, int64, int64, int64,
        float32[:, ::1],
    )  # fmt: skip
    def bf16_make_patches(
        worker, first, last, x, patches, channels, r, s, stride, pad_h, pad_w, dilation, line, memory
    ):
        height, width = x.shape[2], x.shape[3]
        count, rows, columns = patches.shape[1], patches.shape[2], patches.shape[3]
        lines = memory.ctypes.data + worker * memory.strides[0]
        staged = lines + 4 * r * line
        run, runs = s * channels, 1  # of taps side by side
        if dilation > 1:
            run, runs = channels, s
        met = (columns - 1) * stride + (s - 1) * dilation + 1
        left = min(pad_w, met)
        inside = min(width, met - left)
        for task in range(first, last):  # one row of pixels
            n, i = divmod(task, rows)
            for u in range(r):
                h = i * stride + u * dilation - pad_h
                here = lines + 4 * u * line
                if h < 0 or h >= height:
                    clear(here, 4 * line)
                    continue
                clear(here, 4 * left * channels)
                here += 4 * left * channels
                _lay(here, x, n, h, channels, inside)
                clear(here + 4 * inside * channels, 4 * (line - (left + inside) * channels))
            for j in range(0, columns, _PIXELS):
                pixels = min(_PIXELS, columns - j)
                for p in range(pixels):
                    here = lines + 4 * (j + p) * stride * channels
                    to = staged + VECTOR_BYTES * p * count
                    for u in range(r):
                        for v in range(runs):
                            source = here + 4 * (u * line + v * dilation * channels)
                            copy_vectors(to, source, ceil_div(run, LANES))
                            to += 4 * run
                    clear(to, VECTOR_BYTES)
                for block in range(count):
                    target = row_address(patches, n, block, i) + VECTOR_BYTES * j
                    for p in range(pixels):
                        source = staged + VECTOR_BYTES * (p * count + block)
                        copy_vectors(target + VECTOR_BYTES * p, source, 1)

    return bf16_make_patches


@inline
def _lay(to, x, n, h, channels, pixels):
    """Write pixels of a row as bf16 values, all channels of a pixel side by side."""
    lanes = x.shape[4]
    if lanes == channels:
        round_row(to, row_address(x, n, 0, h), pixels * channels)
        return
    for block in range(x.shape[1]):
        source, here = row_address(x, n, block, h), to + 4 * block * lanes
        for w in range(pixels):
            round_row(here + 4 * w * channels, source + 4 * w * lanes, min(lanes, channels - block * lanes))


def patch_weights(threads: Threads, weight, lowered, channels: int) -> None:
    """Write the weights of a convolution as those of one of 1 x 1, as bf16 values.

    Parameters
    ----------
    weight : float32 [K/(V*LANES), C/LANES, R, S, LANES, V*LANES]
    lowered : float32 [K/(V*LANES), blocks(C, (R, S)), 1, 1, LANES, V*LANES]
    """
    threads.run(_move(True), len(weight), weight.size, weight, lowered, channels)


def patch_gradient(threads: Threads, lowered, gradient, channels: int) -> None:
    """Write the gradient of the weights from that of the weights that `patch_weights` writes."""
    threads.run(_move(False), len(gradient), gradient.size, gradient, lowered, channels)


@lru_cache
def _move(LOWERS):
    @kernel(int64, int64, int64, WEIGHT, WEIGHT, int64)
    def bf16_patch_weights(worker, first, last, weight, lowered, channels):
        c_blocks, r, s, width = weight.shape[1], weight.shape[2], weight.shape[3], weight.shape[5]
        for group in range(first, last):
            if LOWERS:
                lowered[group] = float32(0)
            for u in range(r):
                for v in range(s):
                    for c in range(c_blocks * LANES):
                        here = weight[group, c // LANES, u, v, c % LANES]
                        if c >= channels:
                            if not LOWERS:
                                here[:] = float32(0)
                            continue
                        t = (u * s + v) * channels + c
                        there = lowered[group, t // LANES, 0, 0, t % LANES]
                        if LOWERS:
                            round_row(there.ctypes.data, here.ctypes.data, width)
                        else:
                            here[:] = there

    return bf16_patch_weights
