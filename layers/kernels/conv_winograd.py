"""Winograd convolution with stride 1: F(4x4, 3x3) and F(2x2, 5x5), forward and backward_data.

An image is cut into tiles of M x M outputs. A tile's window of x is transformed to 6 x 6 positions (v), at
each position all tiles are multiplied with the transformed weights (u; a GEMM over the channels on the
register tile), and the products (m) are transformed back. That takes 36 multiplications for M*M*R*R: 4 times
fewer for 3x3, 2.8 times fewer for 5x5, where the map divides by M.

Each element of m is one chain over the channels and a tile's result depends on its own window only, so no bit
depends on how tiles are grouped.
"""

from functools import lru_cache
from typing import NamedTuple

from numba import float32, int64

from layers.arithmetic import ceil_div, round_up
from layers.kernels.epilogue import PLAIN, RELU_POOL, TAPS, Epilogue, copy_taps
from layers.kernels.gemm import DEPTH, IS_NARROW
from layers.kernels.jit import inline, kernel
from layers.kernels.matrix_tiles import (
    LINE_STEPS,
    NEAR,
    Finished,
    Rows,
    StreamLoop,
    Streams,
    StreamTile,
    stream_tiles,
)
from layers.kernels.register_tile import TILE_ROWS
from layers.kernels.rows import IMAGE
from layers.kernels.simd import LANES, copy_vectors
from layers.kernels.threads import Threads
from layers.kernels.winograd_tiles import (
    GRID,
    POSITIONS,
    SCRATCH,
    WEIGHTS,
    Grid,
    Positions,
    fetch_below,
    image_of,
    next_place,
    padded_position,
    place_of,
    tile_counts,
    transform_window,
)
from layers.kernels.winograd_transforms import POINTS, WEIGHT, transform, transform_output

FUSED_WEIGHTS = 1 << 16  # most weights of a position: they stay in cache while one worker does all stages
FUSED_TILES = 4 * TILE_ROWS  # tiles at a time: v and m of one worker stay in its L2 cache
STAGED_TILES = 28 * TILE_ROWS  # tiles at a time, where the weights of a position fill the L2 cache alone
SHORTEST = TILE_ROWS // 2  # tiles of a block; with fewer the latency of the multiply-add shows
BLOCK_TILES = 2  # what a block costs beside the products, in tiles of a block
GROUP_TILES = 2  # what a group costs so, which reads all weights


def _at_once(total: int, channels: int, out_channels: int) -> tuple[int, bool]:
    """Return the most tiles of one group, and whether one worker takes a group through all stages."""
    fused = channels * out_channels <= FUSED_WEIGHTS
    return min(FUSED_TILES if fused else STAGED_TILES, round_up(total, TILE_ROWS)), fused


class _Cut(NamedTuple):
    """How the tiles of all images are cut; no bit depends on it."""

    rows: int
    """Tiles of a block: what one register tile multiplies."""
    blocks: int
    """Of a group."""


@lru_cache(maxsize=1 << 12)  # a small layer's kernel takes no longer
def _cut(total: int, most: int, workers: int) -> _Cut:
    """Return the cut with which the last worker is done first; a group has at most `most` tiles.

    Where tiles are few, as in a microbatch, large blocks and groups would leave workers without any, or rows
    of blocks empty.
    """

    def cost(cut: _Cut) -> int:
        block = cut.rows + BLOCK_TILES
        full, rest = divmod(ceil_div(total, cut.rows), cut.blocks)
        each, more = divmod(full, workers)
        group, last = cut.blocks * block + GROUP_TILES, rest * block + GROUP_TILES if rest else 0
        return each * group + (group if more else last)

    cuts = [
        _Cut(rows, blocks)
        for rows in range(TILE_ROWS, SHORTEST - 1, -1)
        for blocks in range(min(most // rows, ceil_div(total, rows)), 0, -1)
    ]
    return min(cuts, key=cost)


def scratch_shapes(
    c_blocks: int, k_blocks: int, total: int, threads: int, outputs: int
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the working memory of `forward` for `total` tiles."""
    channels, out_channels = c_blocks * LANES, k_blocks * LANES
    tiles, fused = _at_once(total, channels, out_channels)
    copies = threads if fused else 1
    return {
        "u": (POSITIONS, padded_position(channels * out_channels)),
        "v": (copies, POSITIONS, padded_position(tiles * channels)),
        "m": (copies, POSITIONS, padded_position(tiles * out_channels)),
        "edge": (threads, 2 * outputs * outputs * LANES),
    }


def halo(width: int, columns: int, outputs: int, padding: int) -> tuple[int, int]:
    """Return the zero columns that the windows reach beyond the rows of x."""
    _, along = tile_counts(1, columns, outputs)
    return padding, max(0, (along - 1) * outputs + POINTS - padding - width)


def forward(
    threads: Threads,
    x,
    weight,
    bias,
    y,
    scratch,
    zeros,
    outputs: int,
    padding: tuple[int, int],
    *,
    flip: bool,
    epilogue: Epilogue = PLAIN,
    prepared: bool = False,
) -> None:
    """Write y: the convolution of x with the weights, plus a bias, and what an epilogue makes of it.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES]
        With the zero columns of `halo` beside its rows.
    weight : float32 [K/(V*LANES), C/LANES, R, R, LANES, V*LANES]
    bias : float32 [K]
    y : float32 [N, K/LANES, OH, OW, LANES]
        Half the rows and columns where the epilogue pools.
    scratch : dict of float32
        Arrays of `scratch_shapes`.
    zeros : float32, at least [6 * LANES]
        Stands for the rows outside the image.
    outputs : int
        M: 4 for 3x3 kernels, 2 for 5x5.
    padding : (int, int)
        Rows and columns.
    flip : bool
        Turn the kernels by 180 degrees: backward_data is the forward of dy with transposed weights.
    prepared : bool
        The scratch has the transformed weights already.
    """
    samples, k_blocks = y.shape[:2]
    rows, columns = (epilogue.window * size for size in y.shape[2:4])
    c_blocks, vectors = x.shape[1], weight.shape[5] // LANES
    u, v, m, edge = (scratch[name] for name in ("u", "v", "m", "edge"))
    if not prepared:
        threads.run(_weights(outputs), weight.shape[0] * c_blocks, weight.size * 16, weight, u, flip)
    down, along = tile_counts(rows, columns, outputs)
    total = samples * down * along
    grid = Grid(down, along, outputs, *padding)
    result = y, *epilogue
    work = 2 * POSITIONS * total * c_blocks * k_blocks * LANES * LANES
    most, fused = _at_once(total, c_blocks * LANES, k_blocks * LANES)
    rows, group = _cut(total, most, threads.count if fused else 1)  # else workers share the positions
    if fused:
        stages = x, u, bias, *result, v, m, edge, zeros
        threads.run(_fused(vectors, rows), ceil_div(total, rows * group), work, *stages, group, grid)
        return
    all_blocks = ceil_div(total, rows)
    for first in range(0, all_blocks, group):
        count = min(group, all_blocks - first)
        threads.run(_input(), count * c_blocks, work, x, v, zeros, rows, first, grid)
        threads.run(_multiply(vectors, rows), POSITIONS, work, v, u, m, zeros, count, c_blocks, k_blocks)
        threads.run(
            _output(), count * k_blocks, work, m, bias, *result, edge, count, vectors, rows, first, grid
        )


@lru_cache
def _weights(OUTPUTS):
    @kernel(int64, int64, int64, WEIGHTS, float32[:, ::1], int64)
    def winograd_weights(worker, first, last, weight, u, flip):
        c_blocks, r, width = weight.shape[1], weight.shape[2], weight.shape[5]
        row, column, position = weight.strides[2] // 4, weight.strides[3] // 4, u.shape[1]
        corner = 0
        if flip:
            corner = (r - 1) * (weight.strides[2] + weight.strides[3])
            row, column = -row, -column
        for task in range(first, last):  # one block of input channels by one group of output channels
            group, block = divmod(task, c_blocks)
            for lane in range(LANES):
                source = (
                    weight.ctypes.data + group * weight.strides[0] + block * weight.strides[1]
                    + lane * weight.strides[4] + corner
                )  # fmt: skip
                target = u.ctypes.data + 4 * ((group * c_blocks + block) * LANES + lane) * width
                for k in range(0, width, LANES):
                    transform(
                        WEIGHT, OUTPUTS, source + 4 * k, row, column, target + 4 * k,
                        POINTS * position, position,
                    )  # fmt: skip

    return winograd_weights


@inline
def _input_stage(first, last, x, c_blocks, total, v, zeros, rows, first_block, grid):
    """Transform windows into v [position][block][C/LANES][rows][LANES]; a task: a block by LANES channels."""
    for task in range(first, last):
        block, cb = divmod(task, c_blocks)
        tile = (first_block + block) * rows
        place = place_of(tile, grid)
        for t in range(min(rows, total - tile)):
            target = v.address + 4 * (task * rows + t) * LANES
            fetch_below(x, cb, place, grid.outputs, POINTS - grid.outputs - grid.pad_h)
            transform_window(x, cb, place, grid, zeros, target, POINTS * v.position, v.position)
            place = next_place(place, grid)


@inline
def _multiply_stage(first, last, TILE, v, u, m, blocks, c_blocks, k_blocks, zeros):
    """Write m = v * u at some positions, [position][group of vectors][tile][vectors * LANES].

    The weights of a group stay in cache while all tiles pass, and those of the next one come into L2.
    """
    rows, channels, width = TILE.rows, c_blocks * LANES, TILE.vectors * LANES
    block, groups = channels * rows, k_blocks // TILE.vectors
    deep = ceil_div(c_blocks, ceil_div(channels, DEPTH))
    step = max(1, width // blocks)  # all tiles together fetch the next weights
    for position in range(first, last):
        for cb in range(0, c_blocks, deep):
            count = min(deep, c_blocks - cb)
            a = v.address + 4 * (position * v.position + cb * rows * LANES)
            panels = u.address + 4 * (position * u.position + cb * LANES * width)
            for group in range(groups):
                b = panels + 4 * group * channels * width
                to = m.address + 4 * (position * m.position + group * blocks * rows * width)
                ahead = b + 4 * channels * width
                if group == groups - 1:
                    ahead = panels + 4 * (deep * LANES * width if cb + deep < c_blocks else u.position)
                start, start_row = (zeros, 0) if cb == 0 else (to, width)
                stream_tiles(
                    TILE, blocks, 0,
                    Streams(a, b, near=a + 4 * NEAR * rows, ahead=ahead),
                    Streams(block, 0, near=block, ahead=count * LANES * step),
                    Rows(start, start_row), Rows(to, width), Finished(0, 0, 0),
                    (
                        StreamLoop(count, rows * LANES, LANES * width, near=rows * LANES, ahead=LANES * step),
                        StreamLoop(LANES, 1, width, near=LANES // LINE_STEPS, ahead=step),
                    ),
                )  # fmt: skip


@inline
def _output_stage(
    first, last, m, blocks, vectors, bias, y, columns, epilogue, argmax, k_blocks, total, edge, rows,
    first_block, grid,
):  # fmt: skip
    """Transform m back into y; a task is a block by LANES channels.

    Where pooling follows, a tile makes half the rows and columns of y, and a byte of the contiguous argmax
    for each value.
    """
    side = grid.outputs // 2 if epilogue == RELU_POOL else grid.outputs
    for task in range(first, last):
        block, kb = divmod(task, k_blocks)
        tile = (first_block + block) * rows
        place = place_of(tile, grid)
        group, vector = divmod(kb, vectors)
        bias_at = bias + 4 * kb * LANES
        for t in range(min(rows, total - tile)):
            source = m.address + 4 * (((group * blocks + block) * rows + t) * vectors + vector) * LANES
            top, left = place.i * side, place.j * side
            target = y.address + place.n * y.sample + kb * y.block + top * y.row + 4 * left * LANES
            taps = argmax + (((place.n * k_blocks + kb) * y.height + top) * columns + left) * LANES
            if top + side <= y.height and left + side <= columns:
                _transform_back(
                    grid.outputs, source, m.position, bias_at, epilogue, target, y.row // 4,
                    taps, columns * LANES,
                )  # fmt: skip
            else:  # only the outputs that exist: beside them lies a halo that stays zero
                edge_taps = edge + 4 * grid.outputs * grid.outputs * LANES
                _transform_back(
                    grid.outputs, source, m.position, bias_at, epilogue, edge, side * LANES,
                    edge_taps, side * LANES,
                )  # fmt: skip
                wide = min(side, columns - left)
                for row in range(min(side, y.height - top)):
                    copy_vectors(target + row * y.row, edge + 4 * row * side * LANES, wide)
                    if epilogue == RELU_POOL:
                        copy_taps(taps + row * columns * LANES, edge_taps + row * side * LANES, wide)
            place = next_place(place, grid)


@inline
def _transform_back(outputs, source, position, bias, epilogue, target, row_step, taps, taps_row):
    if outputs == 4:
        transform_output(4, source, position, bias, epilogue, target, row_step, taps, taps_row)
    else:
        transform_output(2, source, position, bias, epilogue, target, row_step, taps, taps_row)


@lru_cache
def _fused(VECTORS, ROWS):
    TILE = StreamTile(ROWS, VECTORS, a_row=LANES, fetch_b=not IS_NARROW)

    @kernel(
        int64, int64, int64, IMAGE, float32[:, ::1], float32[::1], IMAGE, int64, TAPS, SCRATCH, SCRATCH,
        float32[:, ::1], float32[::1], int64, GRID,
    )  # fmt: skip
    def winograd_fused(worker, first, last, x, u, bias, y, epilogue, argmax, v, m, edge, zeros, group, grid):
        c_blocks, k_blocks = x.shape[1], y.shape[1]
        total = x.shape[0] * grid.down * grid.along
        x_image, y_image = image_of(x), image_of(y)
        zeros_at, bias_at = zeros.ctypes.data, bias.ctypes.data
        v_at = Positions(v.ctypes.data + worker * v.strides[0], v.shape[2])
        u_at = Positions(int64(u.ctypes.data), u.shape[1])
        m_at = Positions(m.ctypes.data + worker * m.strides[0], m.shape[2])
        edge_at = edge.ctypes.data + worker * edge.strides[0]
        for task in range(first, last):  # one group of tile blocks
            block = task * group
            count = min(group, ceil_div(total, ROWS) - block)
            _input_stage(0, count * c_blocks, x_image, c_blocks, total, v_at, zeros_at, ROWS, block, grid)
            _multiply_stage(0, POSITIONS, TILE, v_at, u_at, m_at, count, c_blocks, k_blocks, zeros_at)
            _output_stage(
                0, count * k_blocks, m_at, count, VECTORS, bias_at, y_image, y.shape[3], epilogue,
                argmax.ctypes.data, k_blocks, total, edge_at, ROWS, block, grid,
            )  # fmt: skip

    return winograd_fused


@lru_cache
def _input():
    @kernel(int64, int64, int64, IMAGE, SCRATCH, float32[::1], int64, int64, GRID)
    def winograd_input(worker, first, last, x, v, zeros, rows, block, grid):
        total = x.shape[0] * grid.down * grid.along
        v_at = Positions(int64(v.ctypes.data), v.shape[2])
        _input_stage(first, last, image_of(x), x.shape[1], total, v_at, zeros.ctypes.data, rows, block, grid)

    return winograd_input


@lru_cache
def _multiply(VECTORS, ROWS):
    TILE = StreamTile(ROWS, VECTORS, a_row=LANES, fetch_b=not IS_NARROW)

    @kernel(int64, int64, int64, SCRATCH, float32[:, ::1], SCRATCH, float32[::1], int64, int64, int64)
    def winograd_multiply(worker, first, last, v, u, m, zeros, count, c_blocks, k_blocks):
        v_at = Positions(int64(v.ctypes.data), v.shape[2])
        u_at = Positions(int64(u.ctypes.data), u.shape[1])
        m_at = Positions(int64(m.ctypes.data), m.shape[2])
        zeros_at = zeros.ctypes.data
        _multiply_stage(first, last, TILE, v_at, u_at, m_at, count, c_blocks, k_blocks, zeros_at)

    return winograd_multiply


@lru_cache
def _output():
    @kernel(
        int64, int64, int64, SCRATCH, float32[::1], IMAGE, int64, TAPS, float32[:, ::1], int64, int64, int64,
        int64, GRID,
    )  # fmt: skip
    def winograd_output(
        worker, first, last, m, bias, y, epilogue, argmax, edge, blocks, vectors, rows, block, grid
    ):
        total = y.shape[0] * grid.down * grid.along
        m_at = Positions(int64(m.ctypes.data), m.shape[2])
        _output_stage(
            first, last, m_at, blocks, vectors, bias.ctypes.data, image_of(y), y.shape[3], epilogue,
            argmax.ctypes.data, y.shape[1], total, edge.ctypes.data + worker * edge.strides[0], rows, block,
            grid,
        )  # fmt: skip

    return winograd_output
