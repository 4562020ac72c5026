"""Forward and backward_data of 1x1 convolutions: one matrix product of pixels and channels.

The rows of a tile are pixels one behind the other, whatever image row they are in. Where the pixels of an
image lie side by side in memory they are read in place; else, behind a stride or a halo, a task gathers its
own first.
"""

from functools import lru_cache

import numpy as np
from numba import float32, int64

from layers.arithmetic import ceil_div
from layers.kernels.caches import caches
from layers.kernels.epilogue import RELU, Epilogue
from layers.kernels.gemm import even_blocks
from layers.kernels.jit import inline, kernel
from layers.kernels.matrix_tiles import StreamLoop, Streams
from layers.kernels.pixel_tiles import Places, copy_pixels, in_place, pixel_tile, words
from layers.kernels.register_tile import (
    APART,
    BIAS,
    BIAS_RELU,
    JOINED,
    JOINED_RECTIFIED,
    LOAD,
    LOAD_RELU,
    MOST_VECTORS,
    TILE_ROWS,
    ZERO,
    Tile,
)
from layers.kernels.rows import IMAGE, floats
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads
from layers.kernels.tiling import split_rows

WEIGHT = float32[:, :, :, :, :, ::1]
SCRATCH = float32[:, ::1]
BLOCK_SHARE = 0.4  # of the second-level cache for the pixels that meet all panels of weights
MOST_TILES = 32  # of a task
FEW_PIXELS, MANY_PIXELS = 48, 96  # that share a walk over the weights, which come from beyond that cache
TASKS_PER_THREAD = 4
FEWEST_PANELS = 4  # of a task that gathers its pixels: for fewer, gathering costs too much
NO_BIAS = np.zeros(1, np.float32)


def scratch_shapes(channels: int, threads: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the shapes of the working memory for gathered pixels, and for the tables of their places.

    Parameters
    ----------
    channels : int
        Of what is read, padded to blocks.
    """
    some = LANES * span_of_blocks(channels // LANES)
    return (threads, _most_tiles(some) * TILE_ROWS * some), (threads, 4 * MOST_TILES * TILE_ROWS)


def _most_tiles(channels: int) -> int:
    tile_bytes = 4 * TILE_ROWS * channels
    return max(1, min(MOST_TILES, int(BLOCK_SHARE * caches().l2) // tile_bytes))


def span_of_blocks(c_blocks: int) -> int:
    """Return how many blocks of channels are summed before the next ones are read.

    All of them, unless fewer than FEW_PIXELS would fit the cache. Then the sums wait in y meanwhile, which
    changes no bit, and the weights are read fewer times.
    """

    def pixels(spans: int) -> int:
        return TILE_ROWS * _most_tiles(ceil_div(c_blocks, spans) * LANES)

    spans = 1
    if pixels(1) < FEW_PIXELS:
        while pixels(spans) < MANY_PIXELS and spans < c_blocks:
            spans += 1
    return ceil_div(c_blocks, spans)


def forward(threads: Threads, x, weight, bias, y, gathered, places, channels, stride, epilogue: Epilogue):
    """Write y = bias + the sum over (input block, lane), in that order.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES]
    weight : float32 [K/(V*LANES), C/LANES, 1, 1, LANES, V*LANES]
    bias : float32 [K rounded up to LANES]
    y : float32 [N, K/LANES, OH, OW, LANES]
    gathered, places : float32, shapes from `scratch_shapes`
        Working memory.
    channels : int
        Input channels that are not padding.
    stride : int
    epilogue : Epilogue
        NONE or RELU.
    """
    start = BIAS_RELU if epilogue.kind == RELU else BIAS
    strides = stride, 1
    _multiply(
        threads, x, weight, bias, y, gathered, places, channels, strides, start, y.shape[2:4], APART, y, y
    )


def backward_data(
    threads: Threads, dy, transposed, dx, gathered, places, channels: int, stride: int, *, others=None,
    value=None,
) -> None:  # fmt: skip
    """Write dx; the sum runs over (output block, lane), in that order. Pixels between those read become zero.

    Parameters
    ----------
    dy : float32 [N, K/LANES, OH, OW, LANES]
    transposed : float32 [C/(V*LANES), K/LANES, 1, 1, LANES, V*LANES]
        The weights as `conv_direct.transpose_weights` writes them.
    dx : float32 [N, C/LANES, H, W, LANES]
    channels : int
        Output channels that are not padding.
    others : float32, in memory like dx
        Is added where there is one; stride 1 only.
    value : float32, in memory like dx
        With `others`: dx is 0 where this is not above 0.
    """
    join = APART if others is None else JOINED if value is None else JOINED_RECTIFIED
    _multiply(
        threads, dy, transposed, NO_BIAS, dx, gathered, places, channels, (1, stride), ZERO, dy.shape[2:4],
        join, dx if others is None else others, dx if value is None else value,
    )  # fmt: skip


def _multiply(
    threads, x, weight, bias, y, gathered, places, channels, strides, start, grid, join, others, value
) -> None:
    samples, c_blocks = x.shape[:2]
    width = weight.shape[5]
    vectors = min(MOST_VECTORS, width // LANES)
    panels = weight.shape[0] * (width // (vectors * LANES))
    pixels = grid[0] * grid[1]
    gathers = strides[0] > 1 or not in_place(x)
    strips, length = (1, samples * pixels) if gathers else (samples, pixels)
    rows, tail = split_rows(length, TILE_ROWS)
    tiles = strips * ceil_div(length, rows)
    wanted = TASKS_PER_THREAD * threads.count
    span = span_of_blocks(c_blocks)
    most = min(_most_tiles(span * LANES), max(1, tiles // wanted) if gathers else MOST_TILES)
    blocks, block_tiles = even_blocks(tiles, most)
    most_runs = ceil_div(panels, FEWEST_PANELS) if gathers else panels
    runs, run_panels = even_blocks(panels, ceil_div(panels, min(most_runs, ceil_div(wanted, blocks))))
    run = _product(rows, tail, vectors, width, start, int(gathers), int(span < c_blocks), join)
    work = 2 * samples * pixels * weight.size
    threads.run(
        run, blocks * runs, work, x, weight, bias, y, others, value, gathered, places, channels, *strides,
        *grid, block_tiles, run_panels, span,
    )  # fmt: skip


@lru_cache
def _product(ROWS, TAIL, VECTORS, GROUP, START, GATHERS, SPANS, JOIN):
    PARTS = GROUP // (VECTORS * LANES)  # panels of the tile's vectors that lie side by side in the weights
    BEGIN = BIAS if SPANS and START == BIAS_RELU else START
    END = LOAD_RELU if START == BIAS_RELU else LOAD
    TAIL_ROWS = TAIL if TAIL > 0 else ROWS
    WHOLE = APART if SPANS else JOIN
    TILE, LAST = Tile(ROWS, VECTORS, LANES, BEGIN, WHOLE), Tile(TAIL_ROWS, VECTORS, LANES, BEGIN, WHOLE)
    # Tiles that go on with the sums of other channels, and those that end them.
    MORE, LAST_MORE = Tile(ROWS, VECTORS, LANES, LOAD), Tile(TAIL_ROWS, VECTORS, LANES, LOAD)
    DONE, LAST_DONE = Tile(ROWS, VECTORS, LANES, END, JOIN), Tile(TAIL_ROWS, VECTORS, LANES, END, JOIN)
    TILE_FLOATS = ROWS * LANES

    @kernel(
        int64, int64, int64, IMAGE, WEIGHT, float32[::1], IMAGE, IMAGE, IMAGE, SCRATCH, SCRATCH, int64, int64,
        int64, int64, int64, int64, int64, int64,
    )  # fmt: skip
    def conv_pointwise(
        worker, first, last, x, weight, bias, y, others, value, gathered, places, channels, x_stride,
        y_stride, rows, columns, block_tiles, run_panels, span,
    ):  # fmt: skip
        samples, c_blocks = x.shape[0], x.shape[1]
        panels = PARTS * weight.shape[0]
        pixels = rows * columns
        length = samples * pixels if GATHERS else pixels
        per_strip = ceil_div(length, ROWS)
        tiles = per_strip * (1 if GATHERS else samples)
        runs = ceil_div(panels, run_panels)
        x_at, y_at = x.ctypes.data, y.ctypes.data
        x_block, y_block = x.strides[1] // 4, y.strides[1] // 4
        x_step = x_stride * LANES
        a_block = TILE_FLOATS if GATHERS else x_block
        targets = places.ctypes.data + worker * places.strides[0]
        sources = targets + 4 * places.shape[1] // 2
        packed = gathered.ctypes.data + worker * gathered.strides[0]
        for task in range(first, last):  # a block of tiles of pixels by a run of panels of weights
            block, run = divmod(task, runs)
            tile0 = block * block_tiles
            tile1 = min(tiles, tile0 + block_tiles)
            count = tile1 - tile0
            for tile in range(tile0, tile1):
                strip, index = divmod(tile, per_strip)
                pixel = strip * length + index * ROWS
                height = min(ROWS, length - index * ROWS)
                at = 8 * (tile - tile0) * ROWS
                _write_places(targets + at, y, pixel, height, pixels, columns, y_stride)
                if GATHERS:
                    _write_places(sources + at, x, pixel, height, pixels, columns, x_stride)
            step = max(1, GROUP // count)
            for cb0 in range(0, c_blocks, span):
                some = min(span, c_blocks - cb0)
                whole, last_lanes = divmod(max(0, min(channels - cb0 * LANES, some * LANES)), LANES)
                if GATHERS:
                    height = min(count * ROWS, length - tile0 * ROWS)
                    for cb in range(some):
                        for index in range(count):
                            copy_pixels(
                                packed + 4 * (index * some + cb) * TILE_FLOATS,
                                x_at + 4 * (cb0 + cb) * x_block,
                                sources + 8 * index * ROWS,
                                min(ROWS, height - index * ROWS),
                            )
                for panel in range(run * run_panels, min(panels, (run + 1) * run_panels)):
                    group, part = divmod(panel, PARTS)
                    b = weight.ctypes.data + group * weight.strides[0] + cb0 * weight.strides[1]
                    b += 4 * part * VECTORS * LANES
                    column = 4 * panel * VECTORS * y_block
                    bias_at = bias.ctypes.data + 4 * panel * VECTORS * LANES
                    for index in range(count):
                        tile = tile0 + index
                        strip, place = divmod(tile, per_strip)
                        a = x_at + strip * x.strides[0] + 4 * (place * TILE_FLOATS + cb0 * x_block)
                        if GATHERS:
                            a = packed + 4 * index * some * TILE_FLOATS
                        # a part of the next panel
                        ahead = b + weight.strides[0] + 4 * index * step * (whole * LANES + last_lanes)
                        ahead_block, ahead_lane = LANES * step, step
                        if panel == run * run_panels:  # the pixels of the next channels, or of the next block
                            soon, cb = (
                                (tile, cb0 + some) if cb0 + some < c_blocks else (tile + block_tiles, 0)
                            )
                            strip, place = divmod(min(tiles - 1, soon), per_strip)
                            n, rest = divmod(strip * length + place * ROWS, pixels)
                            i, j = divmod(rest, columns)
                            ahead = x_at + n * x.strides[0] + 4 * cb * x_block
                            ahead += x_stride * (i * x.strides[2] + 4 * j * LANES)
                            ahead_block, ahead_lane = x_block, x_step
                        streams = Streams(a, b, near=a + 4 * a_block, ahead=ahead)
                        nest = (
                            StreamLoop(whole, a_block, LANES * GROUP, near=a_block, ahead=ahead_block),
                            StreamLoop(LANES, 1, GROUP, near=LANES, ahead=ahead_lane),
                        )
                        to = Places(
                            y_at + column, targets + 8 * index * ROWS, y_block, others.ctypes.data + column,
                            value.ctypes.data + column,
                        )  # fmt: skip
                        is_tail = TAIL > 0 and tile % per_strip == per_strip - 1
                        if SPANS and cb0 + some == c_blocks:
                            if is_tail:
                                pixel_tile(LAST_DONE, streams, to, bias_at, nest, last_lanes)
                            else:
                                pixel_tile(DONE, streams, to, bias_at, nest, last_lanes)
                        elif SPANS and cb0 > 0:
                            if is_tail:
                                pixel_tile(LAST_MORE, streams, to, bias_at, nest, last_lanes)
                            else:
                                pixel_tile(MORE, streams, to, bias_at, nest, last_lanes)
                        elif is_tail:
                            pixel_tile(LAST, streams, to, bias_at, nest, last_lanes)
                        else:
                            pixel_tile(TILE, streams, to, bias_at, nest, last_lanes)
            if y_stride > 1:
                for index in range(count):
                    strip, place = divmod(tile0 + index, per_strip)
                    height = min(ROWS, length - place * ROWS)
                    for panel in range(run * run_panels, min(panels, (run + 1) * run_panels)):
                        for vector in range(VECTORS):
                            _zero_between(
                                y, panel * VECTORS + vector, strip * length + place * ROWS, height, pixels,
                                columns, y_stride,
                            )  # fmt: skip

    return conv_pointwise


@inline
def _write_places(table, image, pixel, count, pixels, columns, stride):
    """Write the places of `count` pixels of a grid, from number `pixel` on, which lie `stride` apart."""
    to = words(table)
    n, rest = divmod(pixel, pixels)
    i, j = divmod(rest, columns)
    for k in range(count):
        to[k] = n * image.strides[0] + stride * (i * image.strides[2] + 4 * j * LANES)
        j += 1
        if j == columns:
            i, j = i + 1, 0
            if i * columns == pixels:
                n, i = n + 1, 0


@inline
def _zero_between(image, block, pixel, count, pixels, columns, stride):
    """Clear what lies right of and below `count` pixels of a grid, up to the next that `stride` leads to."""
    height, width = image.shape[2], image.shape[3]
    n, rest = divmod(pixel, pixels)
    i, j = divmod(rest, columns)
    for _ in range(count):
        plane = image.ctypes.data + n * image.strides[0] + block * image.strides[1]
        row = floats(plane + stride * i * image.strides[2])
        for k in range((stride * j + 1) * LANES, min(width, stride * (j + 1)) * LANES):
            row[k] = float32(0)
        if j == 0:
            for h in range(stride * i + 1, min(height, stride * (i + 1))):
                below = floats(plane + h * image.strides[2])
                for k in range(width * LANES):
                    below[k] = float32(0)
        j += 1
        if j == columns:
            i, j = i + 1, 0
            if i * columns == pixels:
                n, i = n + 1, 0
