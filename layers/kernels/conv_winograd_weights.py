"""The weight gradient of a Winograd convolution: the exact transpose of its forward.

``G^T [sum over tiles of (B^T d B) * (A dy A^T)] G``. The inverse transform rounds, so it comes before the
tree: once a leaf.

A span of tiles of a leaf is transformed, for a range of channels of x and one of dy, into working memory that
stays in L3. Then all products of the span are computed in blocks of channels, whose sums at the 36 positions
stay in L2; with the last span of a leaf, a block is transformed back and added to the tree. Few channels are
transformed once so, and many once for each range of the others.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from numba import float32, int64, types

from layers.arithmetic import ceil_div, round_up
from layers.kernels.jit import inline, kernel
from layers.kernels.leaves import merges, stack_depth, tree_merge
from layers.kernels.rows import IMAGE
from layers.kernels.simd import LANES, copy_vectors
from layers.kernels.threads import Threads
from layers.kernels.winograd_sums import CHUNK_TILES, block_tiles, multiply_tiles
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
    row_or_zeros,
    tile_counts,
    transform_window,
)
from layers.kernels.winograd_transforms import (
    OUTPUT_GRADIENT,
    POINTS,
    transform_rows,
    transform_weight_gradient,
)

RANGE = 16  # blocks of channels, of x and of dy, that are transformed at a time; more where they fit a span
SPAN_FLOATS = 1 << 21  # transformed tiles of a span: they stay in L3
BLOCK = 64 // LANES  # most blocks of input channels, and vectors of output channels, of one task
TASKS_EACH = 2  # least products of a range for each thread
RUN_TILES = 28  # tiles of a block of channels that one task transforms


@dataclass(frozen=True)
class _Cut:
    """How a layer is cut into tasks; no bit depends on it."""

    c_range: int
    k_range: int
    """Blocks of channels that are transformed at a time."""
    span: int
    """Tiles that are transformed at a time."""
    vectors: int
    """Vectors of output channels of one task."""

    def tasks(self, blocks: int) -> int:
        """Return the tasks of the products of whole ranges, with `blocks` of input channels in each."""
        return ceil_div(self.c_range, blocks) * (self.k_range // self.vectors)

    def task_blocks(self, threads: int) -> int:
        """Return the blocks of input channels of one task: fewer where threads would find nothing to do."""
        blocks = min(BLOCK, self.c_range)
        while blocks > 1 and threads > 1 and self.tasks(blocks) < TASKS_EACH * threads:
            blocks //= 2
        return blocks


def _cut(c_blocks: int, k_blocks: int, tiles: int) -> _Cut:
    """Return the cut of a layer with so many tiles in a leaf."""
    vectors = next(v for v in (BLOCK, 2, 1) if k_blocks % v == 0)
    most = max(RANGE, SPAN_FLOATS // (2 * POSITIONS * LANES * tiles))
    c_range = ceil_div(c_blocks, ceil_div(c_blocks, most))
    k_range = round_up(ceil_div(k_blocks, ceil_div(k_blocks, most)), vectors)
    chunks = SPAN_FLOATS // (POSITIONS * (c_range + k_range) * LANES * CHUNK_TILES)
    return _Cut(c_range, k_range, min(tiles, max(1, chunks) * CHUNK_TILES), vectors)


def scratch_shapes(
    c_blocks: int, k_blocks: int, taps: int, tiles: int, leaves: int, threads: int
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the working memory of `backward_weights`: v, z, products, partial gradients.

    `tiles` is their number in a leaf.
    """
    cut = _cut(c_blocks, k_blocks, tiles)
    blocks = cut.task_blocks(threads)
    tasks, weights = cut.tasks(blocks), blocks * LANES * cut.vectors * LANES
    return {
        "block_v": (POSITIONS, padded_position(cut.span * cut.c_range * LANES)),
        "block_z": (POSITIONS, padded_position(cut.span * cut.k_range * LANES)),
        "block_u": (threads if tiles <= cut.span else tasks, POSITIONS, padded_position(weights)),
        "block_stack": (tasks, stack_depth(leaves), taps * taps, weights),
    }


def gradient_halo(columns: int, outputs: int) -> tuple[int, int]:
    """Return the zero columns that the tiles reach beyond the rows of dy."""
    return 0, -columns % outputs


class _Span(NamedTuple):
    """What two calls transform and multiply: ranges of blocks of channels, and tiles of a leaf."""

    c_first: int
    c_count: int
    k_first: int
    k_count: int
    tile: int
    """The first, counted over all samples."""
    tiles: int
    distance: int
    """From one block of channels to the next in v and z, in tiles."""


class _Leaf(NamedTuple):
    """Where a span stands in the sum."""

    starts: int
    """Whether it is the first of its leaf."""
    ends: int
    """Whether it is the last of its leaf."""
    number: int
    slot: int
    """Of the stack: where the partial gradient of the leaf belongs."""
    is_last: int
    """Whether the gradient is complete after this leaf."""


_SPAN, _LEAF = types.NamedUniTuple(int64, 7, _Span), types.NamedUniTuple(int64, 5, _Leaf)
_POSITIONS = float32[:, ::1]


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
    grid = Grid(*tile_counts(dy.shape[2], dy.shape[3], outputs), outputs, *padding)
    per_leaf = len(x) // leaves * grid.down * grid.along
    cut = _cut(c_blocks, k_blocks, per_leaf)
    arrays = [scratch[name] for name in ("block_v", "block_z", "block_u", "block_stack")]
    blocks = arrays[-1].shape[-1] // (LANES * cut.vectors * LANES)
    for c_first in range(0, c_blocks, cut.c_range):
        c_count = min(cut.c_range, c_blocks - c_first)
        for k_first in range(0, k_blocks, cut.k_range):
            k_count = min(cut.k_range, k_blocks - k_first)
            for leaf in range(leaves):
                for tile in range(0, per_leaf, cut.span):
                    tiles = min(cut.span, per_leaf - tile)
                    span = _Span(c_first, c_count, k_first, k_count, leaf * per_leaf + tile, tiles, cut.span)
                    ends, is_last = tile + tiles == per_leaf, leaf == leaves - 1
                    at = _Leaf(int(tile == 0), int(ends), leaf, leaf.bit_count(), int(is_last))
                    _add_span(threads, x, dy, gradient, arrays, zeros, blocks, span, at, grid)


def _add_span(threads, x, dy, gradient, arrays, zeros, blocks, span, leaf, grid):
    """Add the products of one span, in blocks of input channels of `blocks` each."""
    v, z, u, stack = arrays
    vectors = stack.shape[-1] // (blocks * LANES * LANES)
    floats = POSITIONS * span.tiles * LANES
    runs = (span.c_count + span.k_count) * ceil_div(span.tiles, RUN_TILES)
    moved = floats * (span.c_count + span.k_count)
    threads.run(_transform_tiles(grid.outputs), runs, moved, x, dy, v, z, zeros, span, grid)
    tasks = ceil_div(span.c_count, blocks) * (span.k_count // vectors)
    work = 2 * floats * span.c_count * span.k_count * LANES
    multiply = _multiply(vectors, grid.outputs)
    threads.run(multiply, tasks, work, v, z, u, stack, gradient, blocks, span, leaf)


@lru_cache
def _transform_tiles(OUTPUTS):
    @kernel(int64, int64, int64, IMAGE, IMAGE, _POSITIONS, _POSITIONS, float32[::1], _SPAN, GRID)
    def winograd_transform_tiles(worker, first, last, x, dy, v, z, zeros, span, grid):
        of_x, of_dy, zeros_at = image_of(x), image_of(dy), zeros.ctypes.data
        runs = ceil_div(span.tiles, RUN_TILES)
        for task in range(first, last):  # a run of tiles of a block of channels, of x or else of dy
            block, run = divmod(task, runs)
            tile = run * RUN_TILES
            place = place_of(span.tile + tile, grid)
            for t in range(tile, min(span.tiles, tile + RUN_TILES)):
                if block < span.c_count:
                    cb = span.c_first + block
                    target = v.ctypes.data + 4 * (block * span.distance + t) * LANES
                    step = v.shape[1]
                    fetch_below(of_x, cb, place, OUTPUTS, POINTS - OUTPUTS - grid.pad_h)
                    transform_window(of_x, cb, place, grid, zeros_at, target, POINTS * step, step)
                else:
                    kb = span.k_first + block - span.c_count
                    target = z.ctypes.data + 4 * ((block - span.c_count) * span.distance + t) * LANES
                    fetch_below(of_dy, kb, place, OUTPUTS, 0)
                    _transform_tile(OUTPUTS, of_dy, kb, place, zeros_at, target, z.shape[1])
                place = next_place(place, grid)

    return winograd_transform_tiles


@lru_cache
def _multiply(VECTORS, OUTPUTS):
    TILES = block_tiles(VECTORS)

    @kernel(
        int64, int64, int64, _POSITIONS, _POSITIONS, SCRATCH, float32[:, :, :, ::1], WEIGHTS, int64, _SPAN,
        _LEAF,
    )  # fmt: skip
    def winograd_weights_products(worker, first, last, v, z, u, stack, gradient, blocks, span, leaf):
        tasks_along = ceil_div(span.c_count, blocks)
        taps, tap, level = stack.shape[2], stack.shape[3], stack.strides[1]
        distance = span.distance * LANES
        # a leaf of one span leaves no sums for another call
        is_own = leaf.starts == 1 and leaf.ends == 1
        for task in range(first, last):  # some blocks of input channels by VECTORS of output channels
            kg, cg = divmod(task, tasks_along)
            cb0 = cg * blocks
            present = min(blocks, span.c_count - cb0)
            v_at = Positions(v.ctypes.data + 4 * cb0 * distance, v.shape[1])
            z_at = Positions(z.ctypes.data + 4 * kg * VECTORS * distance, z.shape[1])
            u_at = Positions(u.ctypes.data + (worker if is_own else task) * u.strides[0], u.shape[2])
            multiply_tiles(TILES, leaf.starts, present, span.tiles, distance, v_at, z_at, u_at)
            if leaf.ends == 1:
                base = stack.ctypes.data + task * stack.strides[0]
                merged = merges(leaf.number)
                adds = min(1, merged)  # the first merge comes with the transform
                slot = leaf.slot - adds
                partial = base + slot * level
                for vector in range(present * LANES * VECTORS):
                    at = 4 * vector * LANES
                    transform_weight_gradient(
                        OUTPUTS, u_at.address + at, u_at.position, partial + at, tap, adds
                    )
                tree_merge(base, level, slot, merged - adds, taps * tap // LANES)
                if leaf.is_last == 1:
                    vector = span.k_first + kg * VECTORS
                    _write(base, tap, gradient, vector, VECTORS, span.c_first + cb0, present)

    return winograd_weights_products


@inline
def _transform_tile(OUTPUTS, dy, block, place, zeros, target, position):
    """Write A dy A^T of one tile; its rows below the map are zeros, its columns beside it the halo."""
    top, left = place.i * OUTPUTS, place.j * OUTPUTS
    plane = dy.address + place.n * dy.sample + block * dy.block + 4 * left * LANES
    first = plane + top * dy.row
    second = row_or_zeros(plane, top + 1, dy.row, dy.height, zeros)
    if OUTPUTS == 2:
        transform_rows(OUTPUT_GRADIENT, 2, (first, second), LANES, target, POINTS * position, position)
    else:
        third = row_or_zeros(plane, top + 2, dy.row, dy.height, zeros)
        fourth = row_or_zeros(plane, top + 3, dy.row, dy.height, zeros)
        rows = (first, second, third, fourth)
        transform_rows(OUTPUT_GRADIENT, 4, rows, LANES, target, POINTS * position, position)


@inline
def _write(block, tap, gradient, first_vector, vectors, cb0, present):
    """Copy a block [R, S, channel * vector * LANES] at an address into the blocked weights.

    Parameters
    ----------
    tap : int64
        Distance of the taps of the block in floats.
    """
    per_group = gradient.shape[5] // LANES
    for j in range(vectors):
        group, vector = divmod(first_vector + j, per_group)
        for u in range(gradient.shape[2]):
            for v in range(gradient.shape[3]):
                at = block + 4 * ((u * gradient.shape[3] + v) * tap + j * LANES)
                to = (
                    gradient.ctypes.data + group * gradient.strides[0] + cb0 * gradient.strides[1]
                    + u * gradient.strides[2] + v * gradient.strides[3] + 4 * vector * LANES
                )  # fmt: skip
                for cb in range(present):
                    for lane in range(LANES):
                        source = at + 4 * (cb * LANES + lane) * vectors * LANES
                        copy_vectors(to + cb * gradient.strides[1] + lane * gradient.strides[4], source, 1)
