"""Images and weights of a convolution as tiles of bf16: 32 channels side by side, in two blocks of 16."""

from functools import lru_cache

from numba import float32, int64

from layers.arithmetic import ceil_div
from layers.kernels.bf16 import clear
from layers.kernels.conv_direct import WEIGHT
from layers.kernels.jit import kernel
from layers.kernels.rows import IMAGE, row_address
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads
from layers.kernels.tile_packing import LINE, pack_pairs, pack_pixels
from layers.kernels.tile_sums import VECTOR_BYTES
from layers.kernels.tile_unit import TILE_BYTES

FLOATS = float32[::1]


def pack(threads: Threads, x, weight, image, weights, beside: tuple[int, int]) -> None:
    """Write images as [N, C/32, H, left + W + right, 32], weights as [K/16, C/32, R, S, 16, 16, 2], bf16.

    An absent block of channels is zero.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES]
    weight : float32 [K/(V*LANES), C/LANES, R, S, LANES, V*LANES]
    image, weights : float32
        Flat, large enough.
    beside : (left, right)
        Columns of zeros.
    """
    pairs = ceil_div(x.shape[1], 2)
    blocks = weight.shape[0] * weight.shape[5] // LANES
    threads.run(_pack_image(), x.shape[0] * pairs, x.size, x, image, *beside)
    threads.run(_pack_weights(), blocks * pairs, weight.size, weight, weights)


@lru_cache(maxsize=1)
def _pack_image():
    @kernel(int64, int64, int64, IMAGE, FLOATS, int64, int64)
    def conv_pack_image(worker, first, last, x, packed, left, right):
        blocks, height, width = x.shape[1], x.shape[2], x.shape[3]
        pairs, row = ceil_div(blocks, 2), (left + width + right) * LINE
        for task in range(first, last):  # two blocks of channels of one sample
            n, pair = divmod(task, pairs)
            for i in range(height):
                target = packed.ctypes.data + (task * height + i) * row
                other = row_address(x, n, 2 * pair + 1, i) if 2 * pair + 1 < blocks else 0
                clear(target, left * LINE)
                target += left * LINE
                pack_pixels(target, row_address(x, n, 2 * pair, i), other, VECTOR_BYTES, width)
                clear(target + width * LINE, right * LINE)

    return conv_pack_image


@lru_cache(maxsize=1)
def _pack_weights():
    @kernel(int64, int64, int64, WEIGHT, FLOATS)
    def conv_pack_weights(worker, first, last, weight, packed):
        c_blocks, taps, per_group = (
            weight.shape[1],
            weight.shape[2] * weight.shape[3],
            weight.shape[5] // LANES,
        )
        pairs = ceil_div(c_blocks, 2)
        for task in range(first, last):  # one block of output channels and two of input channels
            block, pair = divmod(task, pairs)
            group, vector = divmod(block, per_group)
            for half in range(2):
                cb = 2 * pair + half
                source = weight.ctypes.data + group * weight.strides[0] + cb * weight.strides[1]
                for tap in range(taps):
                    target = packed.ctypes.data + (task * taps + tap) * TILE_BYTES + half * TILE_BYTES // 2
                    pack_pairs(
                        target, source + tap * weight.strides[3] + vector * VECTOR_BYTES, weight.strides[4],
                        LANES if cb < c_blocks else 0, LANES // 2,
                    )  # fmt: skip

    return conv_pack_weights
