"""Conversion between blocked images and vectors in the order channel, row, column."""

from functools import lru_cache

from numba import float32, int64

from layers.kernels.jit import kernel
from layers.kernels.rows import IMAGE
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads

VECTORS = float32[:, :]


def forward(threads: Threads, x, y, channels: int) -> None:
    """Write y[n, (c*H + h)*W + w] = x[n, c, h, w], and zeros behind.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES]
    y : float32 [N, C*H*W rounded up to LANES]
    channels : int
        C without padding.
    """
    threads.run(_forward(), x.shape[0] * x.shape[1], y.size, x, y, channels)


@lru_cache(maxsize=1)
def _forward():
    @kernel(int64, int64, int64, IMAGE, VECTORS, int64)
    def flatten_forward(worker, first, last, x, y, channels):
        _, blocks, height, width, _ = x.shape
        for task in range(first, last):
            n, block = divmod(task, blocks)
            for k in range(min(LANES, channels - block * LANES)):
                for i in range(height):
                    start = ((block * LANES + k) * height + i) * width
                    for j in range(width):
                        y[n, start + j] = x[n, block, i, j, k]
            if block == blocks - 1:
                for feature in range(channels * height * width, y.shape[1]):
                    y[n, feature] = 0

    return flatten_forward


def backward_data(threads: Threads, dy, dx, channels: int) -> None:
    """Write the inverse of `forward`; padded channels of dx become zero."""
    threads.run(_backward_data(), dx.shape[0] * dx.shape[1], dx.size, dy, dx, channels)


@lru_cache(maxsize=1)
def _backward_data():
    @kernel(int64, int64, int64, VECTORS, IMAGE, int64)
    def flatten_backward_data(worker, first, last, dy, dx, channels):
        _, blocks, height, width, _ = dx.shape
        for task in range(first, last):
            n, block = divmod(task, blocks)
            for k in range(LANES):
                channel = block * LANES + k
                for i in range(height):
                    start = (channel * height + i) * width
                    for j in range(width):
                        dx[n, block, i, j, k] = dy[n, start + j] if channel < channels else float32(0)

    return flatten_backward_data
