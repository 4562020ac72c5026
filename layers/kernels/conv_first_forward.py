"""Forward of a first layer: 1 to 4 input channels, so that a sum is short and memory counts.

A task makes some rows of y, all channels. Its sum runs over kernel rows and, in one loop, kernel columns and
channels, which lie side by side in a dense x (`first_rows`): the order of the direct algorithm.
"""

from functools import lru_cache

from numba import float32, int64

from layers.kernels.caches import caches
from layers.kernels.conv_direct import NO_ROWS
from layers.kernels.epilogue import PLAIN, RELU, RELU_POOL, TAPS, Epilogue, pool_rows
from layers.kernels.first_rows import FETCHED, IN_CACHE, STREAMED, row_tile
from layers.kernels.jit import kernel
from layers.kernels.register_tile import BIAS, BIAS_RELU, MOST_VECTORS, TILE_ROWS, Loop, Sums, Tile
from layers.kernels.rows import IMAGE, row_address
from layers.kernels.simd import LANES, copy_vectors, finish_streaming
from layers.kernels.threads import Threads
from layers.kernels.tiling import split_rows

WEIGHT = float32[:, :, :, :, :, ::1]
SCRATCH = float32[:, ::1]
TASKS_PER_THREAD = 8
STREAMED_STEPS = 16  # most of a tile whose result memory takes no faster than the tile makes it


def packed_floats(out_blocks: int, channels: int, kernel_shape: tuple[int, int]) -> int:
    """Return the size of the weights without padded channels."""
    return out_blocks * LANES * channels * kernel_shape[0] * kernel_shape[1]


def forward(
    threads: Threads, x, weight, bias, y, packed, stride: int, padding: tuple[int, int],
    *, epilogue: Epilogue = PLAIN, pooling_rows=NO_ROWS,
) -> None:  # fmt: skip
    """Write y = bias + the sum over (kernel row, kernel column, channel), in that order.

    Parameters
    ----------
    x : float32 [N, 1, H, W, C]
        With the halo of `conv_direct.forward`.
    weight : float32 [K/(V*LANES), 1, R, S, LANES, V*LANES]
    bias : float32 [K rounded up to LANES]
    y : float32 [N, K/LANES, OH, OW, LANES]
        Half the rows and columns where the epilogue pools.
    packed : float32 [packed_floats(...)]
        Working memory.
    epilogue, pooling_rows
        As for `conv_direct.forward`.
    """
    samples, _, rows, columns, _ = y.shape
    channels = x.shape[4]
    groups, _, r, s, _, width = weight.shape
    vectors = min(MOST_VECTORS, width // LANES)
    window = epilogue.window
    threads.run(_pack(), groups, packed.size, weight, packed, channels)
    band = max(1, min(rows, rows * samples // (TASKS_PER_THREAD * threads.count)))
    run = _forward(*split_rows(window * columns, TILE_ROWS), vectors, width, stride, channels, epilogue.kind)
    way = IN_CACHE
    if window == 1 and 4 * y.nbytes > threads.count * caches().l3:
        few = channels * r * s <= STREAMED_STEPS and not _misaligned(y)
        way = STREAMED if few else FETCHED
    work = 2 * y.size * window * window * channels * r * s
    threads.run(
        run, samples * -(-rows // band), work, x, packed, bias, y, epilogue.argmax, pooling_rows, r, s,
        *padding, band, way,
    )  # fmt: skip


def _misaligned(y) -> bool:
    return any(value % (4 * LANES) for value in (y.ctypes.data, *y.strides[:4]))


@lru_cache(maxsize=1)
def _pack():
    @kernel(int64, int64, int64, WEIGHT, float32[::1], int64)
    def conv_first_pack(worker, first, last, weight, packed, channels):
        _, _, r, s, _, width = weight.shape
        for group in range(first, last):
            to = packed.ctypes.data + 4 * group * r * s * channels * width
            for u in range(r):
                for v in range(s):
                    of = weight.ctypes.data + group * weight.strides[0]
                    of += u * weight.strides[2] + v * weight.strides[3]
                    copy_vectors(to, of, channels * width // LANES)
                    to += 4 * channels * width

    return conv_first_pack


@lru_cache
def _forward(ROWS, TAIL, VECTORS, GROUP, STRIDE, CHANNELS, EPILOGUE):
    STEP = STRIDE * CHANNELS  # from the scalars of one pixel of y to those of the next
    WINDOW = 2 if EPILOGUE == RELU_POOL else 1
    PARTS = GROUP // (VECTORS * LANES)
    START = BIAS_RELU if EPILOGUE == RELU else BIAS
    TILE = Tile(ROWS, VECTORS, STEP, START)
    LAST = Tile(TAIL if TAIL > 0 else ROWS, VECTORS, STEP, START)

    @kernel(
        int64, int64, int64, IMAGE, float32[::1], float32[::1], IMAGE, TAPS, SCRATCH, int64, int64, int64,
        int64, int64, int64,
    )  # fmt: skip
    def conv_first_forward(
        worker, first, last, x, weight, bias, y, argmax, pooling_rows, r, s, pad_h, pad_w, band_rows, way,
    ):  # fmt: skip
        rows, columns = y.shape[2], WINDOW * y.shape[3]
        height = x.shape[2]
        panels = y.shape[1] // VECTORS
        bands = (rows + band_rows - 1) // band_rows
        terms = s * CHANNELS
        pitch = x.strides[2] // 4
        pair = pooling_rows.ctypes.data + worker * pooling_rows.strides[0]
        for task in range(first, last):  # some rows of y, all channels
            n, place = divmod(task, bands)
            i0 = place * band_rows
            i1 = min(rows, i0 + band_rows)
            image = x.ctypes.data + n * x.strides[0] - 4 * pad_w * CHANNELS
            for i in range(i0, i1):
                for panel in range(panels):
                    group, part = divmod(panel, PARTS)
                    panel_at = weight.ctypes.data + 4 * (group * r * terms * GROUP + part * VECTORS * LANES)
                    for half in range(WINDOW):
                        top = (WINDOW * i + half) * STRIDE - pad_h
                        u0, u1 = max(0, -top), min(r, height - top)
                        a = image + 4 * (top + u0) * pitch
                        b = panel_at + 4 * u0 * terms * GROUP
                        c = (
                            y.ctypes.data
                            + n * y.strides[0]
                            + panel * VECTORS * y.strides[1]
                            + i * y.strides[2]
                        )
                        c_vector = y.strides[1] // 4
                        if WINDOW == 2:
                            c, c_vector = pair + 4 * half * VECTORS * columns * LANES, columns * LANES
                        bias_at = bias.ctypes.data + 4 * panel * VECTORS * LANES
                        nest = (Loop(u1 - u0, pitch, terms * GROUP), Loop(terms, 1, GROUP))
                        for tile in range(columns // ROWS):
                            row_tile(
                                TILE, way, a + 4 * tile * ROWS * STEP, b,
                                Sums(c + 4 * tile * ROWS * LANES, row=LANES, vector=c_vector), bias_at, nest,
                            )  # fmt: skip
                        if TAIL > 0:
                            done = columns // ROWS * ROWS
                            row_tile(
                                LAST, way, a + 4 * done * STEP, b,
                                Sums(c + 4 * done * LANES, row=LANES, vector=c_vector), bias_at, nest,
                            )  # fmt: skip
                    if WINDOW == 2:
                        for vector in range(VECTORS):
                            upper = pair + 4 * vector * columns * LANES
                            block = panel * VECTORS + vector
                            pool_rows(
                                upper, upper + 4 * VECTORS * columns * LANES, y.shape[3],
                                row_address(y, n, block, i), row_address(argmax, n, block, i),
                            )  # fmt: skip
        if way == STREAMED:
            finish_streaming()

    return conv_first_forward
