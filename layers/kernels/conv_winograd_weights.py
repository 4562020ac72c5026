"""The weight gradient of a Winograd convolution: the exact transpose of its forward.

``G^T [sum over tiles of (B^T d B) * (A dy A^T)] G``. The inverse transform rounds, so it comes before the
tree: once a leaf, on a block of channels whose 36 positions stay in the L2 cache, where the leaves' partial
gradients are added as well. One task is one such block: it reads x and dy again for each block, which costs
less than moving 36 positions of all weights through memory.
"""

from dataclasses import dataclass
from functools import lru_cache

from numba import float32, int64

from layers.arithmetic import ceil_div
from layers.kernels.compile_time import CompileTime
from layers.kernels.jit import inline, kernel
from layers.kernels.leaves import stack_depth, tree_add
from layers.kernels.register_tile import ADD, ZERO, Loop, Sums, Tile, Vectors, multiply_tile
from layers.kernels.rows import IMAGE
from layers.kernels.simd import LANES, prefetch_pixels
from layers.kernels.threads import Threads
from layers.kernels.winograd_tiles import (
    GRID,
    POSITIONS,
    SCRATCH,
    WEIGHTS,
    Grid,
    Image,
    Positions,
    image_of,
    next_place,
    padded_position,
    place_of,
    row_or_zeros,
    tile_counts,
    transform_window,
)
from layers.kernels.winograd_transforms import (
    OUTPUT_GRADIENT,
    POINTS,
    WEIGHT_GRADIENT,
    transform,
    transform_rows,
)

CHUNK_TILES = 56  # tiles of one sum: short sums round less, and stay in L1
BLOCK = 64 // LANES  # most blocks of input channels, and vectors of output channels, of one task
LEAST_TASKS = 4  # so that a few workers find something to do
TILE_CHANNELS = 4  # rows of a register tile: input channels
TILE_VECTORS = 4  # most vectors of a register tile: output channels


def block_shape(c_blocks: int, k_blocks: int) -> tuple[int, int]:
    """Return the blocks of input channels and the vectors of output channels of one task."""
    vectors = next(v for v in (16, 8, 4, 2, 1) if v <= BLOCK and k_blocks % v == 0)
    blocks = min(BLOCK, c_blocks)
    while blocks > 1 and ceil_div(c_blocks, blocks) * (k_blocks // vectors) < LEAST_TASKS:
        blocks //= 2
    return blocks, vectors


def scratch_shapes(
    c_blocks: int, k_blocks: int, taps: int, leaves: int, threads: int
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the working memory of `backward_weights`: v, z, products, partial gradients."""
    blocks, vectors = block_shape(c_blocks, k_blocks)
    channels, width = blocks * LANES, vectors * LANES
    return {
        "block_v": (threads, POSITIONS, padded_position(CHUNK_TILES * channels)),
        "block_z": (threads, POSITIONS, padded_position(CHUNK_TILES * width)),
        "block_u": (threads, POSITIONS, padded_position(channels * width)),
        "block_stack": (threads, stack_depth(leaves), taps, taps, channels * width),
    }


def gradient_halo(columns: int, outputs: int) -> tuple[int, int]:
    """Return the zero columns that the tiles reach beyond the rows of dy."""
    return 0, -columns % outputs


def backward_weights(
    threads: Threads, x, dy, gradient, scratch, zeros, outputs: int, padding: tuple[int, int], leaves: int
) -> None:
    """Write the gradient: inside a leaf over its tiles in order, leaves as a tree.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES]
        With the halo of `conv_winograd.halo`.
    dy : float32 [N, K/LANES, OH, OW, LANES]
        With the halo of `gradient_halo`.
    gradient : float32 [K/(V*LANES), C/LANES, R, R, LANES, V*LANES]
    scratch : dict of float32
        Arrays of `scratch_shapes`.
    zeros : float32, at least [6 * LANES]
    """
    c_blocks, k_blocks = x.shape[1], dy.shape[1]
    blocks, vectors = block_shape(c_blocks, k_blocks)
    grid = Grid(*tile_counts(dy.shape[2], dy.shape[3], outputs), outputs, *padding)
    run = _backward_weights(vectors, outputs)
    arrays = [scratch[name] for name in ("block_v", "block_z", "block_u", "block_stack")]
    tasks = ceil_div(c_blocks, blocks) * (k_blocks // vectors)
    work = 2 * POSITIONS * len(x) * grid.down * grid.along * c_blocks * k_blocks * LANES * LANES
    threads.run(run, tasks, work, x, dy, gradient, *arrays, zeros, leaves, blocks, grid)


@dataclass(frozen=True)
class _Shape(CompileTime):
    """What the kernel's code is generated for."""

    vectors: int
    """Vectors of output channels of one task."""
    outputs: int
    """M."""
    first: Tile
    """For the first chunk of a leaf."""
    later: Tile
    """For the other chunks, which add to it."""


@lru_cache
def _backward_weights(VECTORS, OUTPUTS):
    TILES = (Tile(TILE_CHANNELS, min(VECTORS, TILE_VECTORS), 1, start) for start in (ZERO, ADD))
    SHAPE = _Shape(VECTORS, OUTPUTS, *TILES)

    @kernel(
        int64, int64, int64, IMAGE, IMAGE, WEIGHTS, SCRATCH, SCRATCH, SCRATCH, float32[:, :, :, :, ::1],
        float32[::1], int64, int64, GRID,
    )  # fmt: skip
    def winograd_backward_weights(
        worker, first, last, x, dy, gradient, v, z, u, stack, zeros, leaves, blocks, grid
    ):
        samples, c_blocks, taps = x.shape[0], x.shape[1], gradient.shape[2]
        tasks_along = ceil_div(c_blocks, blocks)
        per_leaf = samples // leaves * grid.down * grid.along
        v_at = Positions(v.ctypes.data + worker * v.strides[0], v.shape[2])
        z_at = Positions(z.ctypes.data + worker * z.strides[0], z.shape[2])
        u_at = Positions(u.ctypes.data + worker * u.strides[0], u.shape[2])
        level, tap = stack.strides[1], stack.shape[4]
        stack_at = stack.ctypes.data + worker * stack.strides[0]
        all_x, all_dy, zeros_at = image_of(x), image_of(dy), zeros.ctypes.data
        for task in range(first, last):  # some blocks of input channels by VECTORS of output channels
            kg, cg = divmod(task, tasks_along)
            cb0 = cg * blocks
            present = min(blocks, c_blocks - cb0)
            of_x, of_dy = _from_block(all_x, cb0), _from_block(all_dy, kg * VECTORS)
            slot = 0
            for leaf in range(leaves):
                for chunk in range(0, per_leaf, CHUNK_TILES):
                    count = min(CHUNK_TILES, per_leaf - chunk)
                    place = place_of(leaf * per_leaf + chunk, grid)
                    behind = _transform_chunk(
                        SHAPE, count, place, of_x, present, blocks, of_dy, v_at, z_at, zeros_at, grid
                    )
                    _multiply_chunk(
                        SHAPE, chunk == 0, count, v_at, z_at, u_at,
                        behind, samples, of_x, present, blocks, of_dy, grid,
                    )  # fmt: skip
                partial = stack_at + slot * level
                for vector in range(present * LANES * VECTORS):
                    transform(
                        WEIGHT_GRADIENT, OUTPUTS,
                        u_at.address + 4 * vector * LANES, POINTS * u_at.position, u_at.position,
                        partial + 4 * vector * LANES, taps * tap, tap,
                    )  # fmt: skip
                slot = tree_add(stack_at, level, slot, leaf, taps * taps * tap // LANES)
            _write(stack[worker, 0], gradient, kg * VECTORS, VECTORS, cb0, present)

    return winograd_backward_weights


@inline
def _from_block(image, block):
    """Return the images from a block of channels on."""
    return Image(image.address + block * image.block, image.sample, image.block, image.row, image.height)


@inline
def _transform_chunk(SHAPE, count, place, x, present, blocks, dy, v, z, zeros, grid):
    """Transform the windows of x and the tiles of dy of `count` tiles from `place` on.

    v is [position][tile][`blocks` * LANES], z [position][tile][vectors * LANES]. Return the place behind.
    """
    for t in range(count):
        for cb in range(present):
            target = v.address + 4 * (t * blocks + cb) * LANES
            transform_window(x, cb, place, grid, zeros, target, POINTS * v.position, v.position)
        for vector in range(SHAPE.vectors):
            target = z.address + 4 * (t * SHAPE.vectors + vector) * LANES
            _transform_tile(SHAPE, dy, vector, place, zeros, target, z.position)
        place = next_place(place, grid)
    return place


@inline
def _multiply_chunk(SHAPE, is_first, count, v, z, u, behind, samples, x, present, blocks, dy, grid):
    """Sum v * z over the tiles of a chunk at each position, the first chunk of a leaf from zero.

    Beside the products, the pixels of the next chunk come into L2: those of one block each turn.
    """
    width = SHAPE.vectors * LANES
    place, turn = behind, 0
    for position in range(POSITIONS):
        for channel in range(0, present * LANES, TILE_CHANNELS):
            if place.n < samples:
                _fetch_tile(SHAPE, x, turn, present, dy, place)
                turn += 1
                if turn == present + SHAPE.vectors:
                    place, turn = next_place(place, grid), 0
            a = v.address + 4 * (position * v.position + channel)
            for vector in range(0, SHAPE.vectors, SHAPE.first.vectors):
                b = Vectors(z.address + 4 * (position * z.position + vector * LANES), LANES)
                to = u.address + 4 * (position * u.position + channel * width + vector * LANES)
                c = Sums(to, row=width, vector=LANES)
                over_tiles = (Loop(count, blocks * LANES, width),)
                if is_first:
                    multiply_tile(SHAPE.first, a, b, c, over_tiles)
                else:
                    multiply_tile(SHAPE.later, a, b, c, over_tiles)


@inline
def _fetch_tile(SHAPE, x, turn, present, dy, place):
    """Ask for the pixels of a tile in one block: of the `present` ones of x, then of those of dy."""
    image, block = x, turn
    if turn >= present:
        image, block = dy, turn - present
    corner = image.address + place.n * image.sample + block * image.block
    corner += SHAPE.outputs * (place.i * image.row + 4 * place.j * LANES)
    prefetch_pixels(corner, image.row, SHAPE.outputs)


@inline
def _transform_tile(SHAPE, dy, block, place, zeros, target, position):
    """Write A dy A^T of one tile; its rows below the map are zeros, its columns beside it the halo."""
    top, left = place.i * SHAPE.outputs, place.j * SHAPE.outputs
    plane = dy.address + place.n * dy.sample + block * dy.block + 4 * left * LANES
    first = plane + top * dy.row
    second = row_or_zeros(plane, top + 1, dy.row, dy.height, zeros)
    if SHAPE.outputs == 2:
        transform_rows(OUTPUT_GRADIENT, 2, (first, second), LANES, target, POINTS * position, position)
    else:
        third = row_or_zeros(plane, top + 2, dy.row, dy.height, zeros)
        fourth = row_or_zeros(plane, top + 3, dy.row, dy.height, zeros)
        rows = (first, second, third, fourth)
        transform_rows(OUTPUT_GRADIENT, 4, rows, LANES, target, POINTS * position, position)


@inline
def _write(block, gradient, first_vector, vectors, cb0, present):
    """Copy a block [R, S, channel * vector * LANES] into the blocked weights."""
    per_group = gradient.shape[5] // LANES
    for j in range(vectors):
        group, vector = divmod(first_vector + j, per_group)
        for u in range(gradient.shape[2]):
            for v in range(gradient.shape[3]):
                for cb in range(present):
                    for lane in range(LANES):
                        at = ((cb * LANES + lane) * vectors + j) * LANES
                        for k in range(LANES):
                            gradient[group, cb0 + cb, u, v, lane, vector * LANES + k] = block[u, v, at + k]
