"""Copies of runs of channels between activations whose blocks need not coincide."""

from functools import lru_cache

from numba import float32, int64

from layers.arithmetic import ceil_div
from layers.kernels.jit import kernel
from layers.kernels.rows import IMAGE, as_channels, copy_row, floats, row_address
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads


def copy(threads: Threads, x, x_first: int, y, y_first: int, channels: int) -> None:
    """Write channels ``y_first : y_first + channels`` of y from those at `x_first` of x.

    Lanes behind the last channel in its block become zero. x and y are images, or vectors whose features
    count as channels.
    """
    x, y = as_channels(x), as_channels(y)
    touched = ceil_div(y_first + channels, LANES) - y_first // LANES
    work = x.shape[0] * channels * y.shape[2] * y.shape[3]
    threads.run(_copy(), x.shape[0] * touched, work, x, x_first, y, y_first, channels)


@lru_cache(maxsize=1)
def _copy():
    @kernel(int64, int64, int64, IMAGE, int64, IMAGE, int64, int64)
    def copy_channels(worker, first, last, x, x_first, y, y_first, channels):
        end = y_first + channels
        begin = y_first // LANES
        touched = ceil_div(end, LANES) - begin
        columns = y.shape[3]
        for task in range(first, last):  # one block of y
            n, index = divmod(task, touched)
            block = begin + index
            channel, stop = max(y_first, block * LANES), min(end, (block + 1) * LANES)
            while channel < stop:  # at most two blocks of x meet one of y
                x_block, x_lane = divmod(channel - y_first + x_first, LANES)
                lane = channel - block * LANES
                count = min(stop - channel, LANES - x_lane)
                for i in range(y.shape[2]):
                    source, target = row_address(x, n, x_block, i), row_address(y, n, block, i)
                    if count == LANES:
                        copy_row(target, source, columns * LANES)
                    else:
                        of, to = floats(source), floats(target)
                        for j in range(columns):
                            for k in range(count):
                                to[j * LANES + lane + k] = of[j * LANES + x_lane + k]
                channel += count
            for i in range(y.shape[2]):
                to = floats(row_address(y, n, block, i))
                for j in range(columns):
                    for k in range(stop - block * LANES, LANES):
                        to[j * LANES + k] = float32(0)

    return copy_channels
