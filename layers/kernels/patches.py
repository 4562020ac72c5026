"""A convolution of few channels as a product: the pixels that each tap meets, side by side as channels.

Channel ``(u * S + v) * C + c`` of a patch is channel c of the pixel that tap (u, v) meets, as a bf16 value.
So a convolution of R x S taps becomes one of 1 x 1, and a sum over taps and channels is one run of terms.
"""

from functools import lru_cache

from numba import float32, int64

from layers.arithmetic import ceil_div
from layers.kernels.bf16 import round_row
from layers.kernels.conv_direct import WEIGHT
from layers.kernels.jit import kernel
from layers.kernels.rows import IMAGE, row_address
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads


def blocks(channels: int, kernel: tuple[int, int]) -> int:
    """Return the blocks of channels of a patch."""
    return ceil_div(kernel[0] * kernel[1] * channels, LANES)


def make_patches(
    threads: Threads,
    x,
    patches,
    channels: int,
    kernel: tuple[int, int],
    stride: int,
    padding: tuple[int, int],
    dilation: int,
    row,
) -> None:
    """Write the patches of all pixels of a convolution's result; absent pixels and channels are zero.

    Parameters
    ----------
    x : float32 [N, C/L, H, W, L]
        L is LANES, or the number of channels.
    patches : float32 [N, blocks(C, kernel), OH, OW, LANES]
    row : float32 [threads, blocks(C, kernel) * LANES]
        Working memory.
    """
    tasks = patches.shape[0] * patches.shape[2]
    threads.run(_make(), tasks, patches.size, x, patches, channels, *kernel, stride, *padding, dilation, row)


@lru_cache(maxsize=1)
def _make():
    @kernel(
        int64, int64, int64, IMAGE, IMAGE, int64, int64, int64, int64, int64, int64, int64, float32[:, ::1]
    )
    def bf16_make_patches(
        worker, first, last, x, patches, channels, r, s, stride, pad_h, pad_w, dilation, row
    ):
        height, width, lanes = x.shape[2], x.shape[3], x.shape[4]
        count, rows, columns = patches.shape[1], patches.shape[2], patches.shape[3]
        patch = row[worker]
        patch[:] = float32(0)
        for task in range(first, last):  # one row of pixels
            n, i = divmod(task, rows)
            for j in range(columns):
                for u in range(r):
                    h = i * stride + u * dilation - pad_h
                    for v in range(s):
                        w = j * stride + v * dilation - pad_w
                        at = (u * s + v) * channels
                        inside = 0 <= h < height and 0 <= w < width
                        for c in range(channels):
                            patch[at + c] = x[n, c // lanes, h, w, c % lanes] if inside else float32(0)
                for block in range(count):
                    target = row_address(patches, n, block, i) + 4 * j * LANES
                    round_row(target, patch.ctypes.data + 4 * block * LANES, LANES)

    return bf16_make_patches


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
