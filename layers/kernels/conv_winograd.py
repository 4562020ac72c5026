"""Winograd convolution with stride 1: F(4x4, 3x3) and F(2x2, 5x5), forward and backward_data.

An image is cut into tiles of M x M outputs. A tile's window of x is transformed to 6 x 6 positions (v), at
each position all tiles are multiplied with the transformed weights (u; a GEMM over the channels on the
register tile), and the products (m) are transformed back. That takes 36 multiplications for M*M*R*R: 4 times
fewer for 3x3, 2.8 times fewer for 5x5, where the map divides by M.

Each element of m is one chain over the channels and a tile's result depends on its own window only, so no bit
depends on how tiles are grouped.
"""

from functools import lru_cache

from numba import float32, int64, types

from layers.kernels.epilogue import PLAIN, RELU_POOL, TAPS, Epilogue, copy_taps
from layers.kernels.jit import inline, kernel
from layers.kernels.simd import LANES, ONCE, TILE_ROWS, ZERO, copy_vectors, tiles
from layers.kernels.threads import Threads
from layers.kernels.winograd_transforms import (
    INPUT,
    POINTS,
    WEIGHT,
    transform,
    transform_output,
    transform_rows,
)

POSITIONS = POINTS * POINTS
IMAGE = float32[:, :, :, :, :]
WEIGHTS = float32[:, :, :, :, :, ::1]
SCRATCH = float32[:, :, ::1]
GEOMETRY = types.UniTuple(int64, 5)
"""Tile rows and columns of an image, M, padding rows and columns."""

ROWS = TILE_ROWS
"""Tiles of the image in one block: what one register tile multiplies."""
FUSED_WEIGHTS = 1 << 16  # a position's: so many stay in the caches while one worker does all three stages
FUSED_BLOCKS = 4  # at a time: u, v and m of one worker stay in its L2 cache
STAGED_BLOCKS = 28  # at a time, where the weights of a position fill the L2 cache on their own


def padded_position(floats: int) -> int:
    """Return the distance of positions in floats: 64 bytes more than a multiple of 4096.

    At a multiple of 4096 bytes the 36 streams of a transform would fall into the same cache sets.
    """
    return -(-floats // 1024) * 1024 + 16


def tile_counts(rows: int, columns: int, outputs: int) -> tuple[int, int]:
    """Return the tiles along both sides of a map of outputs."""
    return -(-rows // outputs), -(-columns // outputs)


def _blocks(total: int, channels: int, out_channels: int) -> tuple[int, bool]:
    """Return the blocks of one group, and whether one worker takes a group through all stages."""
    fused = channels * out_channels <= FUSED_WEIGHTS
    return min(FUSED_BLOCKS if fused else STAGED_BLOCKS, -(-total // ROWS)), fused


def scratch_shapes(
    c_blocks: int, k_blocks: int, total: int, threads: int, outputs: int
) -> dict[str, tuple[int, ...]]:
    """Return the working memory of `forward` for `total` tiles."""
    channels, out_channels = c_blocks * LANES, k_blocks * LANES
    blocks, fused = _blocks(total, channels, out_channels)
    copies = threads if fused else 1
    return {
        "u": (POSITIONS, padded_position(channels * out_channels)),
        "v": (copies, POSITIONS, padded_position(blocks * ROWS * channels)),
        "m": (copies, POSITIONS, padded_position(blocks * ROWS * out_channels)),
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
    """
    samples, k_blocks = y.shape[:2]
    rows, columns = (epilogue.window * size for size in y.shape[2:4])
    c_blocks, vectors = x.shape[1], weight.shape[5] // LANES
    u, v, m, edge = (scratch[name] for name in ("u", "v", "m", "edge"))
    threads.run(_weights(outputs), weight.shape[0] * c_blocks, weight.size * 16, weight, u, flip)
    down, along = tile_counts(rows, columns, outputs)
    total = samples * down * along
    geometry = (down, along, outputs, *padding)
    result = y, *epilogue
    group, fused = _blocks(total, c_blocks * LANES, k_blocks * LANES)
    all_blocks = -(-total // ROWS)
    work = 2 * POSITIONS * total * c_blocks * k_blocks * LANES * LANES
    if fused:
        run = _fused(vectors)
        stages = x, u, bias, *result, v, m, edge, zeros
        threads.run(run, -(-all_blocks // group), work, *stages, group, geometry)
        return
    for first in range(0, all_blocks, group):
        count = min(group, all_blocks - first)
        threads.run(_input(), count * c_blocks, work, x, v, zeros, first, geometry)
        threads.run(_multiply(vectors), POSITIONS, work, v, u, m, count, c_blocks, k_blocks)
        threads.run(_output(), count * k_blocks, work, m, bias, *result, edge, first, geometry)


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
def row_address(plane, row, row_bytes, height, zeros):
    """Return the address of a row of an image at address `plane`, or of zeros outside the image."""
    return plane + row * row_bytes if 0 <= row < height else zeros


@inline
def transform_window(plane, row_bytes, height, top, left, zeros, target, row_step, column_step):
    """Write B^T d B of the window that begins at row `top` and column `left` of an image.

    Addresses and sizes instead of arrays: an array handed to a function is counted as one more reference,
    which costs more than the transform.
    """
    at = plane + 4 * left * LANES
    rows = (
        row_address(at, top, row_bytes, height, zeros),
        row_address(at, top + 1, row_bytes, height, zeros),
        row_address(at, top + 2, row_bytes, height, zeros),
        row_address(at, top + 3, row_bytes, height, zeros),
        row_address(at, top + 4, row_bytes, height, zeros),
        row_address(at, top + 5, row_bytes, height, zeros),
    )
    transform_rows(INPUT, 4, rows, LANES, target, row_step, column_step)  # B^T is the same for every M


@inline
def _input_stage(first, last, x, image, c_blocks, total, v, position, zeros, first_block, geometry):
    """Transform windows into v [position][block][C/LANES][ROWS][LANES]; a task: a block by LANES channels."""
    down, along, outputs, pad_h, pad_w = geometry
    sample_bytes, block_bytes, row_bytes, height = image
    for task in range(first, last):
        block, cb = divmod(task, c_blocks)
        t0 = (first_block + block) * ROWS
        n, rest = divmod(t0, down * along)
        i, j = divmod(rest, along)
        for t in range(min(ROWS, total - t0)):
            plane = x + n * sample_bytes + cb * block_bytes
            target = v + 4 * (task * ROWS + t) * LANES
            top, left = i * outputs - pad_h, j * outputs - pad_w
            transform_window(
                plane, row_bytes, height, top, left, zeros, target, POINTS * position, position
            )  # fmt: skip
            n, i, j = next_tile(n, i, j, down, along)


@inline
def next_tile(n, i, j, down, along):
    """Return the sample, row and column of the tile behind (n, i, j)."""
    j += 1
    if j == along:
        i, j = i + 1, 0
        if i == down:
            n, i = n + 1, 0
    return n, i, j


@inline
def _multiply_stage(
    first, last, VECTORS, v, v_position, u, u_position, m, m_position, blocks, c_blocks, k_blocks
):
    """Multiply at some positions; a block of tiles stays in L1 while the weights pass by."""
    channels = c_blocks * LANES
    for position in range(first, last):
        for block in range(blocks):
            a = v + 4 * (position * v_position + block * channels * ROWS)
            for group in range(k_blocks // VECTORS):
                b = u + 4 * (position * u_position + group * channels * VECTORS * LANES)
                c = m + 4 * (position * m_position + (block * k_blocks + group * VECTORS) * ROWS * LANES)
                if VECTORS == 2:
                    tiles(
                        ROWS, 0, 2, LANES, ZERO, 1, 0, a, 0, b, LANES, c, LANES, ROWS * LANES, 0,
                        ONCE, ONCE, (c_blocks, ROWS * LANES, 2 * LANES * LANES), (LANES, 1, 2 * LANES),
                    )  # fmt: skip
                else:
                    tiles(
                        ROWS, 0, 1, LANES, ZERO, 1, 0, a, 0, b, LANES, c, LANES, ROWS * LANES, 0,
                        ONCE, ONCE, (c_blocks, ROWS * LANES, LANES * LANES), (LANES, 1, LANES),
                    )  # fmt: skip


@inline
def _output_stage(
    first, last, m, position, bias, y, image, columns, epilogue, argmax, k_blocks, total, edge, first_block,
    geometry,
):  # fmt: skip
    """Transform m back into y; a task is a block by LANES channels.

    Where pooling follows, a tile makes half as many rows and columns of y, and one byte a value of argmax,
    which is contiguous.
    """
    down, along, outputs, _, _ = geometry
    sample_bytes, block_bytes, row_bytes, height = image
    side = outputs // 2 if epilogue == RELU_POOL else outputs
    for task in range(first, last):
        block, kb = divmod(task, k_blocks)
        t0 = (first_block + block) * ROWS
        n, rest = divmod(t0, down * along)
        i, j = divmod(rest, along)
        for t in range(min(ROWS, total - t0)):
            source = m + 4 * (task * ROWS + t) * LANES
            top, left = i * side, j * side
            target = y + n * sample_bytes + kb * block_bytes + top * row_bytes + 4 * left * LANES
            taps = argmax + (((n * k_blocks + kb) * height + top) * columns + left) * LANES
            if top + side <= height and left + side <= columns:
                _transform_back(
                    outputs, source, position, bias + 4 * kb * LANES, epilogue, target, row_bytes // 4,
                    taps, columns * LANES,
                )  # fmt: skip
            else:  # only the outputs that exist: beside them lies a halo that stays zero
                edge_taps = edge + 4 * outputs * outputs * LANES
                _transform_back(
                    outputs, source, position, bias + 4 * kb * LANES, epilogue, edge, side * LANES,
                    edge_taps, side * LANES,
                )  # fmt: skip
                vectors = min(side, columns - left)
                for row in range(min(side, height - top)):
                    copy_vectors(target + row * row_bytes, edge + 4 * row * side * LANES, vectors)
                    if epilogue == RELU_POOL:
                        copy_taps(taps + row * columns * LANES, edge_taps + row * side * LANES, vectors)
            n, i, j = next_tile(n, i, j, down, along)


@inline
def _transform_back(outputs, source, position, bias, epilogue, target, row_step, taps, taps_row):
    if outputs == 4:
        transform_output(4, source, position, bias, epilogue, target, row_step, taps, taps_row)
    else:
        transform_output(2, source, position, bias, epilogue, target, row_step, taps, taps_row)


@lru_cache
def _fused(VECTORS):
    @kernel(
        int64, int64, int64, IMAGE, float32[:, ::1], float32[::1], IMAGE, int64, TAPS, SCRATCH, SCRATCH,
        float32[:, ::1], float32[::1], int64, GEOMETRY,
    )  # fmt: skip
    def winograd_fused(
        worker, first, last, x, u, bias, y, epilogue, argmax, v, m, edge, zeros, group, geometry
    ):
        c_blocks, k_blocks = x.shape[1], y.shape[1]
        total = x.shape[0] * geometry[0] * geometry[1]
        x_image = x.strides[0], x.strides[1], x.strides[2], x.shape[2]
        y_image = y.strides[0], y.strides[1], y.strides[2], y.shape[2]
        x_at, y_at, zeros_at, bias_at = x.ctypes.data, y.ctypes.data, zeros.ctypes.data, bias.ctypes.data
        v_at = v.ctypes.data + worker * v.strides[0]
        m_at = m.ctypes.data + worker * m.strides[0]
        edge_at = edge.ctypes.data + worker * edge.strides[0]
        for task in range(first, last):  # one group of tile blocks
            block = task * group
            count = min(group, (total + ROWS - 1) // ROWS - block)
            _input_stage(
                0, count * c_blocks, x_at, x_image, c_blocks, total, v_at, v.shape[2], zeros_at, block,
                geometry,
            )  # fmt: skip
            _multiply_stage(
                0, POSITIONS, VECTORS, v_at, v.shape[2], u.ctypes.data, u.shape[1], m_at, m.shape[2],
                count, c_blocks, k_blocks,
            )  # fmt: skip
            _output_stage(
                0, count * k_blocks, m_at, m.shape[2], bias_at, y_at, y_image, y.shape[3], epilogue,
                argmax.ctypes.data, k_blocks, total, edge_at, block, geometry,
            )  # fmt: skip

    return winograd_fused


@lru_cache
def _input():
    @kernel(int64, int64, int64, IMAGE, SCRATCH, float32[::1], int64, GEOMETRY)
    def winograd_input(worker, first, last, x, v, zeros, block, geometry):
        total = x.shape[0] * geometry[0] * geometry[1]
        image = x.strides[0], x.strides[1], x.strides[2], x.shape[2]
        _input_stage(
            first, last, x.ctypes.data, image, x.shape[1], total, v.ctypes.data, v.shape[2],
            zeros.ctypes.data, block, geometry,
        )  # fmt: skip

    return winograd_input


@lru_cache
def _multiply(VECTORS):
    @kernel(int64, int64, int64, SCRATCH, float32[:, ::1], SCRATCH, int64, int64, int64)
    def winograd_multiply(worker, first, last, v, u, m, count, c_blocks, k_blocks):
        _multiply_stage(
            first, last, VECTORS, v.ctypes.data, v.shape[2], u.ctypes.data, u.shape[1],
            m.ctypes.data, m.shape[2], count, c_blocks, k_blocks,
        )  # fmt: skip

    return winograd_multiply


@lru_cache
def _output():
    @kernel(int64, int64, int64, SCRATCH, float32[::1], IMAGE, int64, TAPS, float32[:, ::1], int64, GEOMETRY)
    def winograd_output(worker, first, last, m, bias, y, epilogue, argmax, edge, block, geometry):
        total = y.shape[0] * geometry[0] * geometry[1]
        image = y.strides[0], y.strides[1], y.strides[2], y.shape[2]
        _output_stage(
            first, last, m.ctypes.data, m.shape[2], bias.ctypes.data, y.ctypes.data, image, y.shape[3],
            epilogue, argmax.ctypes.data, y.shape[1], total, edge.ctypes.data + worker * edge.strides[0],
            block, geometry,
        )  # fmt: skip

    return winograd_output
