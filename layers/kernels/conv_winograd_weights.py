"""The weight gradient of a Winograd convolution: the exact transpose of its forward.

``G^T [sum over tiles of (B^T d B) * (A dy A^T)] G``. The inverse transform rounds, so it comes before the
tree: once a leaf, on a block of channels whose 36 positions stay in the L2 cache, where the leaves' partial
gradients are added as well. One task is one such block: it reads x and dy again for each block, which costs
less than moving 36 positions of all weights through memory.
"""

from functools import lru_cache

from numba import float32, int64

from layers.kernels.conv_winograd import (
    GEOMETRY,
    IMAGE,
    POSITIONS,
    SCRATCH,
    WEIGHTS,
    next_tile,
    padded_position,
    row_address,
    transform_window,
)
from layers.kernels.jit import inline, kernel
from layers.kernels.leaves import stack_depth, tree_add
from layers.kernels.simd import ADD, LANES, ONCE, REGISTERS, ZERO, prefetch_pixels, tiles
from layers.kernels.threads import Threads
from layers.kernels.winograd_transforms import (
    OUTPUT_GRADIENT,
    POINTS,
    WEIGHT_GRADIENT,
    transform,
    transform_rows,
)

CHUNK_TILES = 56 if LANES == 16 else 28  # summed on their own (shorter sums round less); they stay in L1
BLOCK = 64 // LANES  # blocks of input channels, and vectors of output channels, in one task at most
LEAST_TASKS = 4
TILE_CHANNELS = 4  # input channels of a register tile
TILE_VECTORS = 4 if REGISTERS == 32 else 2  # and its vectors of output channels at most


def block_shape(c_blocks: int, k_blocks: int) -> tuple[int, int]:
    """Return the blocks of input channels and the vectors of output channels of one task."""
    vectors = next(v for v in (16, 8, 4, 2, 1) if v <= BLOCK and k_blocks % v == 0)
    blocks = min(BLOCK, c_blocks)
    while blocks > 1 and -(-c_blocks // blocks) * (k_blocks // vectors) < LEAST_TASKS:
        blocks //= 2  # enough tasks for a few workers
    return blocks, vectors


def scratch_shapes(
    c_blocks: int, k_blocks: int, taps: int, leaves: int, threads: int
) -> dict[str, tuple[int, ...]]:
    """Return the working memory of `backward_weights`: v, z, products, partial gradients."""
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
    down, along = -(-dy.shape[2] // outputs), -(-dy.shape[3] // outputs)
    run = _backward_weights(vectors, outputs)
    arrays = [scratch[name] for name in ("block_v", "block_z", "block_u", "block_stack")]
    tasks = -(-c_blocks // blocks) * (k_blocks // vectors)
    work = 2 * POSITIONS * len(x) * down * along * c_blocks * k_blocks * LANES * LANES
    threads.run(
        run, tasks, work, x, dy, gradient, *arrays, zeros, leaves, blocks, (down, along, outputs, *padding)
    )


@lru_cache
def _backward_weights(VECTORS, OUTPUTS):
    WIDTH = VECTORS * LANES
    COLUMNS = min(VECTORS, TILE_VECTORS)

    @kernel(
        int64, int64, int64, IMAGE, IMAGE, WEIGHTS, SCRATCH, SCRATCH, SCRATCH, float32[:, :, :, :, ::1],
        float32[::1], int64, int64, GEOMETRY,
    )  # fmt: skip
    def winograd_backward_weights(
        worker, first, last, x, dy, gradient, v, z, u, stack, zeros, leaves, blocks, geometry
    ):  # fmt: skip
        down, along = geometry[0], geometry[1]
        samples, c_blocks, taps = x.shape[0], x.shape[1], gradient.shape[2]
        tasks_along = (c_blocks + blocks - 1) // blocks
        per_leaf = samples // leaves * down * along
        v_at = v.ctypes.data + worker * v.strides[0]
        z_at = z.ctypes.data + worker * z.strides[0]
        u_at = u.ctypes.data + worker * u.strides[0]
        level = stack.strides[1]
        stack_at = stack.ctypes.data + worker * stack.strides[0]
        x_at, dy_at, zeros_at = x.ctypes.data, dy.ctypes.data, zeros.ctypes.data
        step = blocks * LANES  # channels of a tile in v
        for task in range(first, last):
            kg, cg = divmod(task, tasks_along)
            cb0 = cg * blocks
            present = min(blocks, c_blocks - cb0)
            channels = present * LANES
            slot = 0
            for leaf in range(leaves):
                for chunk in range(0, per_leaf, CHUNK_TILES):
                    count = min(CHUNK_TILES, per_leaf - chunk)
                    t0 = leaf * per_leaf + chunk
                    n, rest = divmod(t0, down * along)
                    i, j = divmod(rest, along)
                    for t in range(count):
                        plane = x_at + n * x.strides[0] + cb0 * x.strides[1]
                        top, left = i * OUTPUTS - geometry[3], j * OUTPUTS - geometry[4]
                        for cb in range(present):
                            transform_window(
                                plane + cb * x.strides[1], x.strides[2], x.shape[2], top, left, zeros_at,
                                v_at + 4 * (t * step + cb * LANES), POINTS * v.shape[2], v.shape[2],
                            )  # fmt: skip
                        plane = dy_at + n * dy.strides[0] + kg * VECTORS * dy.strides[1]
                        for vector in range(VECTORS):
                            _gradient_tile(
                                OUTPUTS, plane + vector * dy.strides[1], dy.strides[2], dy.shape[2],
                                i * OUTPUTS, j * OUTPUTS, zeros_at,
                                z_at + 4 * (t * WIDTH + vector * LANES), z.shape[2],
                            )  # fmt: skip
                        n, i, j = next_tile(n, i, j, down, along)
                    # Beside the products, the pixels of the next chunk come into L2: some lines each turn.
                    next_n, next_i, next_j, turn = n, i, j, 0
                    for position in range(POSITIONS):
                        a = v_at + position * v.strides[1]
                        b = z_at + position * z.strides[1]
                        c = u_at + position * u.strides[1]
                        for lane in range(0, channels, TILE_CHANNELS):
                            if next_n < samples:
                                if turn < present:
                                    row_bytes = x.strides[2]
                                    plane = x_at + next_n * x.strides[0] + (cb0 + turn) * x.strides[1]
                                else:
                                    row_bytes = dy.strides[2]
                                    block = kg * VECTORS + turn - present
                                    plane = dy_at + next_n * dy.strides[0] + block * dy.strides[1]
                                corner = plane + OUTPUTS * (next_i * row_bytes + 4 * next_j * LANES)
                                prefetch_pixels(corner, row_bytes, OUTPUTS)
                                turn += 1
                                if turn == present + VECTORS:
                                    turn = 0
                                    next_n, next_i, next_j = next_tile(next_n, next_i, next_j, down, along)
                            for vector in range(0, VECTORS, COLUMNS):
                                z_from = b + 4 * vector * LANES
                                u_to = c + 4 * (lane * WIDTH + vector * LANES)
                                if chunk == 0:
                                    tiles(
                                        TILE_CHANNELS, 0, COLUMNS, 1, ZERO, 1, 0, a + 4 * lane, 0,
                                        z_from, LANES, u_to, WIDTH, LANES, 0,
                                        ONCE, ONCE, ONCE, (count, step, WIDTH),
                                    )  # fmt: skip
                                else:
                                    tiles(
                                        TILE_CHANNELS, 0, COLUMNS, 1, ADD, 1, 0, a + 4 * lane, 0,
                                        z_from, LANES, u_to, WIDTH, LANES, 0,
                                        ONCE, ONCE, ONCE, (count, step, WIDTH),
                                    )  # fmt: skip
                partial = stack_at + slot * level
                for vector in range(channels * VECTORS):
                    transform(
                        WEIGHT_GRADIENT, OUTPUTS, u_at + 4 * vector * LANES, POINTS * u.shape[2], u.shape[2],
                        partial + 4 * vector * LANES, taps * stack.shape[4], stack.shape[4],
                    )  # fmt: skip
                slot = tree_add(stack_at, level, slot, leaf, taps * taps * stack.shape[4] // LANES)
            _write(stack[worker, 0], gradient, kg * VECTORS, VECTORS, cb0, present)

    return winograd_backward_weights


@inline
def _gradient_tile(OUTPUTS, plane, row_bytes, height, top, left, zeros, target, position):
    """Write A dy A^T of one tile; its rows below the map are zeros, its columns beside it the halo."""
    at = plane + 4 * left * LANES
    first, second = at + top * row_bytes, row_address(at, top + 1, row_bytes, height, zeros)
    if OUTPUTS == 2:
        transform_rows(OUTPUT_GRADIENT, 2, (first, second), LANES, target, POINTS * position, position)
    else:
        third = row_address(at, top + 2, row_bytes, height, zeros)
        fourth = row_address(at, top + 3, row_bytes, height, zeros)
        rows = (first, second, third, fourth)
        transform_rows(OUTPUT_GRADIENT, 4, rows, LANES, target, POINTS * position, position)


@inline
def _write(block, gradient, first_vector, vectors, cb0, present):
    """Copy a block [R, S, channel * vector * LANES] to where it belongs in the blocked weights."""
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
