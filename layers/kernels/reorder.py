"""Conversion of minibatches from the plain layout of data readers to the blocked layout of kernels."""

from functools import lru_cache

from numba import float32, int64

from layers.kernels.jit import kernel
from layers.kernels.threads import Threads


def to_blocked(threads: Threads, plain, blocked) -> None:
    """Write float32 ``[N, C, H, W]`` (``[N, F]``) as ``[N, C/L, H, W, L]`` (F padded with zeros)."""
    if plain.ndim == 4:
        threads.run(_images(), len(plain) * blocked.shape[1], blocked.size, plain, blocked)
    else:
        threads.run(_vectors(), len(plain), blocked.size, plain, blocked)


@lru_cache
def _images():
    @kernel(int64, int64, int64, float32[:, :, :, ::1], float32[:, :, :, :, :])
    def block_images(worker, first, last, plain, blocked):
        channels, height, width = plain.shape[1:]
        lanes = blocked.shape[4]
        for task in range(first, last):
            n, block = divmod(task, blocked.shape[1])
            present = min(lanes, channels - block * lanes)
            for i in range(height):
                for j in range(width):
                    for lane in range(present):
                        blocked[n, block, i, j, lane] = plain[n, block * lanes + lane, i, j]
                    for lane in range(present, lanes):
                        blocked[n, block, i, j, lane] = 0

    return block_images


@lru_cache
def _vectors():
    @kernel(int64, int64, int64, float32[:, ::1], float32[:, ::1])
    def block_vectors(worker, first, last, plain, blocked):
        features = plain.shape[1]
        for n in range(first, last):
            blocked[n, :features] = plain[n]
            blocked[n, features:] = 0

    return block_vectors
