"""Direct convolution of bf16 on the tile unit: forward and backward_data.

A tile of A is some pixels of a row, one of B the weights of one tap from 32 channels that are summed to 16
that are computed. x (or dy) is packed once, 32 channels of a pixel side by side, with columns of zeros; rows
outside the image are skipped. The sums of a block go over all channels and taps before they are stored.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from numba import float32, int64, types

from layers.arithmetic import ceil_div
from layers.kernels.conv_direct import gradient_halo, halo
from layers.kernels.conv_tile_packing import pack
from layers.kernels.epilogue import PLAIN, RELU, RELU_POOL, TAPS, Epilogue, pool_rows
from layers.kernels.jit import inline, kernel
from layers.kernels.register_tile import LOAD, ZERO
from layers.kernels.residues import first_positions, step_and_fall
from layers.kernels.rows import IMAGE, row_address
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads
from layers.kernels.tile_block import (
    Pairs,
    TileBlock,
    TileLoop,
    Tiles,
    begin_tiles,
    end_tiles,
    multiply_tiles,
)
from layers.kernels.tile_packing import LINE
from layers.kernels.tile_sums import VECTOR_BYTES, write_rectified, write_rounded, write_sums
from layers.kernels.tile_unit import MEMORY_FLOATS, ROWS, TILE_BYTES, TileUnit

FLOATS = float32[::1]
BAND_TILES = 16  # of pixels that pass by the weights of 16 channels while these are in the second-level cache
TASKS_PER_THREAD = 4


class Axis(NamedTuple):
    """The rows, or columns, of what is computed, and what they read.

    Of `number` ones m is that at `first` + m * `every`. For each t below `taps` it reads the input at
    `start` + m * `step` + t * `fall`, with the weights at `tap` + t * `tap_step`.
    """

    number: int
    first: int
    every: int
    start: int
    step: int
    taps: int
    fall: int
    tap: int
    tap_step: int


_AXIS = types.NamedUniTuple(int64, len(Axis._fields), Axis)


class Room(NamedTuple):
    """Floats of working memory."""

    image: int
    """The packed x, or dy."""
    weights: int
    tiles: tuple[int, int]
    """One row a thread."""


def room(
    samples: int, blocks: tuple[int, int], image: tuple[int, int], kernel: tuple[int, int],
    columns: int, stride: int, threads: int,
) -> Room:  # fmt: skip
    """Return the working memory of `forward` or `backward_data`.

    Parameters
    ----------
    blocks
        Of LANES channels that are summed, and that are computed.
    image : (rows, columns)
        Of x (or dy), with the halo that it has in memory.
    columns
        Of y (or dx).
    """
    summed, computed = blocks
    pairs = ceil_div(summed, 2)
    pixels = samples * pairs * image[0] * _odd(image[1]) + ROWS * stride  # which the last tile reads in vain
    weights = computed * pairs * kernel[0] * kernel[1] * TILE_BYTES // 4
    _, tiles = _tile_columns(columns)
    staged = max(2 * tiles, BAND_TILES) * ROWS * LANES
    return Room(pixels * LINE // 4, weights, (threads, MEMORY_FLOATS + staged))


def forward(
    threads: Threads,
    unit: TileUnit,
    x,
    weight,
    bias,
    y,
    packed: tuple[Any, ...],
    stride: int,
    padding: tuple[int, int],
    *,
    dilation: int = 1,
    epilogue: Epilogue = PLAIN,
) -> None:
    """Write y = bias + the sum over blocks of 32 input channels, kernel rows and columns, in that order.

    Results are rounded to values of bf16, before pooling compares them.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES]
    weight : float32 [K/(V*LANES), C/LANES, R, S, LANES, V*LANES]
    bias : float32 [K rounded up to LANES]
    y : float32 [N, K/LANES, OH, OW, LANES]
        Half the rows and columns where the epilogue pools.
    packed : three of float32, sizes from `room`
        Working memory.
    """
    r, s = weight.shape[2:4]
    window = epilogue.window
    rows, columns = (window * size for size in y.shape[2:4])
    beside = _beside(x, halo(x.shape[3], columns, (s - 1) * dilation + 1, stride, padding[1]))
    axes = (
        Axis(rows, 0, 1, -padding[0], stride, r, dilation, 0, 1),
        Axis(columns, 0, 1, -padding[1], stride, s, dilation, 0, 1),
    )
    pack(threads, x, weight, packed[0], packed[1], beside)
    _convolve(threads, unit, x, weight, packed, beside, bias, y, axes, epilogue)


def backward_data(
    threads: Threads,
    unit: TileUnit,
    dy,
    transposed,
    dx,
    packed: tuple[Any, ...],
    stride: int,
    padding: tuple[int, int],
    dilation: int = 1,
) -> None:
    """Write dx; the sum runs over blocks of 32 output channels, rows and columns of dy, in that order.

    Rows and columns of dx of each residue modulo the stride are a convolution of their own.

    Parameters
    ----------
    dy : float32 [N, K/LANES, OH, OW, LANES]
    transposed : float32 [C/(V*LANES), K/LANES, R, S, LANES, V*LANES]
        The weights as `conv_direct.transpose_weights` writes them.
    dx : float32 [N, C/LANES, H, W, LANES]
    packed : three of float32, sizes from `room`
        Working memory.
    """
    reach = (transposed.shape[3] - 1) * dilation + 1
    beside = _beside(dy, gradient_halo(dx.shape[3], dy.shape[3], reach, stride, padding[1]))
    pack(threads, dy, transposed, packed[0], packed[1], beside)
    for rows in _phases(dx.shape[2], transposed.shape[2], stride, padding[0], dilation):
        for columns in _phases(dx.shape[3], transposed.shape[3], stride, padding[1], dilation):
            _convolve(threads, unit, dy, transposed, packed, beside, None, dx, (rows, columns), PLAIN)


def _phases(size: int, taps: int, stride: int, padding: int, dilation: int) -> Iterator[Axis]:
    """Give the positions of dx of each residue; the kernel falls, so that those of dy ascend."""
    step, fall = step_and_fall(stride, dilation)
    for phase in range(min(stride, size)):
        first = first_positions(stride, dilation)[(phase + padding) % stride]
        met = max(0, ceil_div(taps - first, step))
        start = (phase + padding - first * dilation) // stride - (met - 1) * fall
        yield Axis(
            ceil_div(size - phase, stride),
            phase,
            stride,
            start,
            1,
            met,
            fall,
            first + (met - 1) * step,
            -step,
        )


def _odd(pixels: int) -> int:
    """Return an odd number of pixels: then rows of an image share fewer sets of the first-level cache."""
    return pixels + 1 - pixels % 2


def _beside(x, needed: tuple[int, int]) -> tuple[int, int]:
    """Return the columns of zeros left and right of a row as it is packed."""
    left, right = needed
    return left, _odd(left + x.shape[3] + right) - left - x.shape[3]


def _tile_columns(columns: int) -> tuple[int, int]:
    """Return the pixels of a tile and the tiles of a row; the last one may be shorter."""
    rows = ceil_div(columns, ceil_div(columns, ROWS))
    return rows, ceil_div(columns, rows)


def _convolve(
    threads: Threads, unit, x, weight, packed, beside, bias, y, axes: tuple[Axis, Axis], epilogue: Epilogue
) -> None:
    samples, blocks, height, width, _ = x.shape
    rows, columns = axes
    pixels, tiles = _tile_columns(columns.number)
    band = max(epilogue.window, BAND_TILES // tiles // epilogue.window * epilogue.window)
    bands = ceil_div(rows.number, band)
    # of output channels, so that there are enough tasks
    chunks = min(y.shape[1], ceil_div(TASKS_PER_THREAD * threads.count, samples * bands))
    run = _kernel(unit, epilogue.kind, bias is not None)
    work = 2 * samples * rows.number * columns.number * blocks * LANES * y.shape[1] * LANES
    threads.run(
        run, chunks * samples * bands, work * rows.taps * columns.taps,
        packed[0], packed[1], packed[0] if bias is None else bias, y, epilogue.argmax, packed[2],
        rows, columns, (ceil_div(blocks, 2), height, beside[0] + width + beside[1]), beside[0],
        weight.shape[3], weight.shape[2] * weight.shape[3], band, chunks, pixels,
    )  # fmt: skip


@lru_cache
def _kernel(UNIT, EPILOGUE, BIAS):
    WINDOW = 2 if EPILOGUE == RELU_POOL else 1
    BLOCKS = [TileBlock(UNIT, tiles, 1, 1, LOAD if BIAS else ZERO) for tiles in range(5)]
    _, ONE, TWO, THREE, FOUR = BLOCKS
    write = write_rectified if EPILOGUE == RELU else write_rounded if BIAS else write_sums

    @kernel(
        int64, int64, int64, FLOATS, FLOATS, FLOATS, IMAGE, TAPS, float32[:, ::1], _AXIS, _AXIS,
        types.UniTuple(int64, 3), int64, int64, int64, int64, int64, int64,
    )  # fmt: skip
    def conv_tiles(
        worker, first, last, x, weight, bias, y, argmax, memory, rows, columns,
        image, left, kernel_columns, kernel_size, band, chunks, pixels,
    ):  # fmt: skip
        samples, k_blocks = y.shape[0], y.shape[1]
        pairs, height, pitch = image
        tiles, tile_bytes = ceil_div(columns.number, pixels), pixels * VECTOR_BYTES
        bands, per_chunk = ceil_div(rows.number, band), ceil_div(k_blocks, chunks)
        unit = memory.ctypes.data + worker * memory.strides[0]
        staged = unit + 4 * MEMORY_FLOATS
        x_row, x_pixel = pitch * LINE, columns.step * LINE
        x_block, w_block = height * x_row, kernel_size * TILE_BYTES
        begin_tiles(FOUR, unit, pixels)
        for task in range(first, last):  # some rows of one sample of some blocks of output channels
            chunk, rest = divmod(task, samples * bands)
            n, m0 = rest // bands, rest % bands * band
            m1 = min(rows.number, m0 + band)
            for block in range(chunk * per_chunk, min(k_blocks, (chunk + 1) * per_chunk)):
                bias_at = bias.ctypes.data + block * VECTOR_BYTES
                m = m0
                while m < m1:
                    t0, t1 = _inside(rows, m, height)
                    end = m + 1
                    while end < m1 and _inside(rows, end, height) == (t0, t1):
                        end += 1
                    a = (
                        x.ctypes.data + n * pairs * x_block + (left + columns.start) * LINE
                        + (rows.start + m * rows.step + t0 * rows.fall) * x_row
                    )  # fmt: skip
                    tap = (rows.tap + t0 * rows.tap_step) * kernel_columns + columns.tap
                    b = Pairs(weight.ctypes.data + block * pairs * w_block + tap * TILE_BYTES, 0)
                    nest = (
                        TileLoop(pairs, x_block, w_block),
                        TileLoop(t1 - t0, rows.fall * x_row, rows.tap_step * kernel_columns * TILE_BYTES),
                        TileLoop(columns.taps, columns.fall * LINE, columns.tap_step * TILE_BYTES),
                    )
                    count = (end - m) * tiles
                    c = staged + (m - m0) * tiles * tile_bytes
                    for tile in range(0, count, 4):
                        a0 = _tile(a, tile, tiles, rows.step * x_row, pixels * x_pixel)
                        a1 = _tile(a, tile + 1, tiles, rows.step * x_row, pixels * x_pixel)
                        a2 = _tile(a, tile + 2, tiles, rows.step * x_row, pixels * x_pixel)
                        a3 = _tile(a, tile + 3, tiles, rows.step * x_row, pixels * x_pixel)
                        c0 = c + tile * tile_bytes
                        c1, c2, c3 = c0 + tile_bytes, c0 + 2 * tile_bytes, c0 + 3 * tile_bytes
                        if count - tile >= 4:
                            multiply_tiles(
                                FOUR, unit, Tiles((a0, a1, a2, a3), x_pixel, 0), b,
                                Tiles((bias_at, bias_at, bias_at, bias_at), 0, 0),
                                Tiles((c0, c1, c2, c3), VECTOR_BYTES, 0), nest,
                            )  # fmt: skip
                        elif count - tile == 3:
                            multiply_tiles(
                                THREE, unit, Tiles((a0, a1, a2), x_pixel, 0), b,
                                Tiles((bias_at, bias_at, bias_at), 0, 0),
                                Tiles((c0, c1, c2), VECTOR_BYTES, 0), nest,
                            )  # fmt: skip
                        elif count - tile == 2:
                            multiply_tiles(
                                TWO, unit, Tiles((a0, a1), x_pixel, 0), b,
                                Tiles((bias_at, bias_at), 0, 0), Tiles((c0, c1), VECTOR_BYTES, 0), nest,
                            )  # fmt: skip
                        else:
                            multiply_tiles(
                                ONE, unit, Tiles((a0,), x_pixel, 0), b,
                                Tiles((bias_at,), 0, 0), Tiles((c0,), VECTOR_BYTES, 0), nest,
                            )  # fmt: skip
                    m = end
                if WINDOW == 2:
                    for m in range(m0, m1, 2):
                        upper = staged + (m - m0) * tiles * tile_bytes
                        write(upper, VECTOR_BYTES, upper, VECTOR_BYTES, 2 * tiles * pixels)
                        pool_rows(
                            upper, upper + tiles * tile_bytes, y.shape[3],
                            row_address(y, n, block, m // 2), row_address(argmax, n, block, m // 2),
                        )  # fmt: skip
                else:
                    for m in range(m0, m1):
                        to = row_address(y, n, block, rows.first + m * rows.every)
                        write(
                            to + columns.first * VECTOR_BYTES, columns.every * VECTOR_BYTES,
                            staged + (m - m0) * tiles * tile_bytes, VECTOR_BYTES, columns.number,
                        )  # fmt: skip
        end_tiles(FOUR, unit)

    return conv_tiles


@inline
def _inside(rows, m, height):
    """Return the first tap of row `m` that is inside the image, and the one behind the last."""
    top = rows.start + m * rows.step
    return max(0, ceil_div(-top, rows.fall)), min(rows.taps, ceil_div(height - top, rows.fall))


@inline
def _tile(a, tile, tiles, row, step):
    """Return where a tile of pixels begins."""
    return a + tile // tiles * row + tile % tiles * step
