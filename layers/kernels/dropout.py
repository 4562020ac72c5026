"""Dropout. The mask is a function of counters, so backward computes it again instead of storing it."""

from functools import lru_cache

import numpy as np
from numba import float32, int64, uint32

from layers.kernels.jit import kernel
from layers.kernels.random import random_bits, stream_key
from layers.kernels.rows import IMAGE, as_rows, copy_row, floats, row_address
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads


def apply(
    threads: Threads, x, y, samples, probability: float, seed: int, step: int, key: int, first: int = 0
) -> None:
    """Write y = x / (1 - probability) where the element is kept, else 0; y may be x.

    Parameters
    ----------
    x, y : float32 [N, C/LANES, H, W, LANES] or [N, F]
    samples : int64 [N]
        Index of each sample in the data set. An element is kept by (seed, step, sample, key) and its
        place (c, h, w) or (f,) in the sample.
    first : int
        Place in the sample of the first element held here.
    """
    if x.ndim == 5:
        pixel, lane = 1, x.shape[2] * x.shape[3]
    else:
        pixel, lane = LANES, 1
    x, y = as_rows(x), as_rows(y)
    threshold = np.uint32(min(round(probability * 2**32), 2**32 - 1))
    scale = np.float32(1 / (1 - probability))
    tasks = y.shape[0] * y.shape[1]
    threads.run(
        _apply(), tasks, 8 * y.size,
        x, y, samples, threshold, scale, seed, step, key, first, pixel, lane,
    )  # fmt: skip


@lru_cache(maxsize=1)
def _apply():
    @kernel(int64, int64, int64, IMAGE, IMAGE, int64[:], uint32, float32, *[int64] * 6)
    def dropout_apply(
        worker, first, last, x, y, samples, threshold, scale, seed, step, key, place, pixel_step, lane_step
    ):
        columns = y.shape[3]
        pixels, lanes = np.uint32(pixel_step), np.uint32(lane_step)
        for task in range(first, last):
            n, block = divmod(task, y.shape[1])
            stream = stream_key(seed, step, samples[n], key)
            low, high = np.uint32(stream), np.uint32(stream >> np.uint64(32))
            for i in range(y.shape[2]):
                target = row_address(y, n, block, i)
                copy_row(target, row_address(x, n, block, i), columns * LANES)
                row = floats(target)
                start = np.uint32(place + block * LANES * lane_step + i * columns)
                for j in range(columns):
                    for k in range(LANES):
                        counter = np.uint32(start + np.uint32(j) * pixels + np.uint32(k) * lanes)
                        kept = random_bits(low, high, counter) >= threshold
                        row[j * LANES + k] = row[j * LANES + k] * scale if kept else float32(0)

    return dropout_apply
