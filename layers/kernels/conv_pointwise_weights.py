"""The weight and bias gradients of 1x1 convolutions: a product of channels and channels over pixels.

A task makes a block of weights for a group of leaves. It walks over the pixels in chunks that stay in the
second-level cache while all tiles of the block pass, and fetches the next chunk meanwhile. The tree over
leaves is done in registers, with the last chunk of a leaf.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import float32, int64

from layers.arithmetic import ceil_div
from layers.kernels.caches import caches
from layers.kernels.jit import inline, kernel
from layers.kernels.leaves import merges, stack_depth
from layers.kernels.matrix_tiles import Finished, Rows
from layers.kernels.pixel_tiles import (
    Columns,
    Steps,
    copy_strided,
    in_place,
    leaf_tile,
)
from layers.kernels.register_tile import MOST_VECTORS, TILE_ROWS, Tile
from layers.kernels.rows import IMAGE
from layers.kernels.runs import rows_of_run, runs_of_leaf
from layers.kernels.simd import LANES, add_vectors, copy_vectors
from layers.kernels.threads import Threads

SUMS = float32[:, ::1]
TILES = ceil_div(LANES, TILE_ROWS)  # of a block of input channels, as few as can be
ROWS, MORE = divmod(LANES, TILES)  # input channels of a tile; the first MORE tiles have one more
BLOCK = 8 * LANES  # input and output channels of a block of weights: 64 KB, of which the tree keeps a few
CHUNK_SHARE = 0.25  # of the second-level cache for the pixels of a block; the next ones come beside them
TASKS_PER_THREAD = 4
SLAB = 64  # vectors that one task adds
CONSTANTS = np.array(
    [0.0] * MOST_VECTORS * LANES + [1.0], np.float32
)  # where sums begin, and a factor for dy


def panel_width(k_blocks: int) -> int:
    """Return the output channels of a panel: as many as a tile has."""
    return LANES * (MOST_VECTORS if k_blocks % MOST_VECTORS == 0 else 1)


def cuts(k_blocks: int, c_blocks: int, stride: int, leaves: int, threads: int) -> tuple[int, int, int]:
    """Return (panels, input blocks) of a task, and the number of groups of leaves.

    Behind a stride each task gathers its pixels of x, so it has more outputs and fewer inputs.
    """
    most, width = BLOCK // LANES, panel_width(k_blocks)
    narrow = most if stride == 1 else most // 4
    inputs = min(c_blocks, max(1, narrow, most * most // k_blocks))
    outputs = max(LANES, min(k_blocks * LANES, most * BLOCK // inputs))
    wanted = TASKS_PER_THREAD * threads

    def tasks() -> int:
        return ceil_div(k_blocks * LANES, outputs) * ceil_div(c_blocks, inputs)

    groups = 1
    if (
        k_blocks * c_blocks <= 4 * most * most
    ):  # small enough that all groups of leaves have sums of their own
        while tasks() * groups < wanted and groups < leaves:
            groups *= 2
    while tasks() * groups < wanted and max(outputs // LANES, inputs) > most // 2:
        if outputs >= inputs * LANES:
            outputs = ceil_div(outputs // LANES, 2) * LANES
        else:
            inputs = ceil_div(inputs, 2)
    return ceil_div(outputs, width), inputs, groups


def chunk_pixels(outputs: int, inputs: int) -> int:
    """Return the pixels of a chunk for a block of so many output and input channels."""
    return max(32, min(512, int(CHUNK_SHARE * caches().l2) // (4 * (outputs + inputs))))


def scratch_shapes(
    k_blocks: int, c_blocks: int, stride: int, leaves: int, threads: int, cut: int
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return the shapes of the working memory: partial sums, gathered pixels, gradients of groups of leaves.

    `cut` are the runs of a leaf.
    """
    width = panel_width(k_blocks)
    outputs, inputs, groups = cuts(k_blocks, c_blocks, stride, leaves, threads)
    channels = outputs * width + inputs * LANES
    of_groups = 0 if groups == 1 else groups
    return (
        (threads, stack_depth(leaves * cut) * outputs * (inputs * LANES + 1) * width),
        (threads, channels * chunk_pixels(outputs * width, inputs * LANES)),
        (of_groups, k_blocks * LANES * c_blocks * LANES),
        (of_groups, k_blocks * LANES),
    )


def backward_weights(
    threads: Threads,
    x,
    dy,
    stack,
    gathered,
    group_weights,
    group_biases,
    gradient,
    bias_gradient,
    stride,
    leaves,
) -> None:
    """Write the gradients: inside a run over (sample, row, column), in that order; runs and leaves as a tree.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES]
    dy : float32 [N, K/LANES, OH, OW, LANES]
    stack, gathered, group_weights, group_biases : float32, shapes from `scratch_shapes`
        Working memory.
    gradient : float32 [K/(V*LANES), C/LANES, 1, 1, LANES, V*LANES]
    bias_gradient : float32 [K rounded up to LANES]
    stride, leaves : int
    """
    k_blocks, c_blocks, width = dy.shape[1], x.shape[1], panel_width(dy.shape[1])
    panels = k_blocks * LANES // width
    outputs, inputs, groups = cuts(k_blocks, c_blocks, stride, leaves, threads.count)
    weights, biases = group_weights, group_biases
    if groups == 1:
        weights, biases = gradient.reshape(1, -1), bias_gradient.reshape(1, -1)
    tasks = groups * ceil_div(panels, outputs) * ceil_div(c_blocks, inputs)
    run = _backward_weights(width // LANES, gradient.shape[5])
    cut = runs_of_leaf(len(dy) // leaves, *dy.shape[2:4])
    gathers = int(stride > 1 or not in_place(x)), int(not in_place(dy))
    threads.run(
        run, tasks, 2 * dy.size * c_blocks * LANES, x, dy, CONSTANTS, stack, gathered, weights, biases,
        panels, outputs, inputs, chunk_pixels(outputs * width, inputs * LANES), stride, *gathers, leaves, cut,
    )  # fmt: skip
    if groups > 1:
        for sums, total in ((weights, gradient.reshape(-1)), (biases, bias_gradient)):
            threads.run(_add_groups(), ceil_div(total.size, SLAB * LANES), 2 * sums.size, sums, total)


class Chunk(NamedTuple):
    """Samples and pixels of a grid that are summed at a time, and where the next ones begin."""

    n: int
    samples: int
    pixel: int
    pixels: int
    next_n: int
    next_pixel: int


class Operand(NamedTuple):
    """A chunk of x or dy: its address, distances of blocks in bytes and samples in floats, the next chunk."""

    address: int
    block: int
    sample: int
    ahead: int


class Partial(NamedTuple):
    """Where the sums of a block go: to a slot of the stack, or added to the slots below it."""

    slot: int
    level: int
    """Distance of slots in bytes."""
    begins: bool
    merged: int
    """Slots below that are added and replaced."""


@lru_cache
def _backward_weights(VECTORS, GROUP):
    PANEL = VECTORS * LANES
    PARTS = GROUP // PANEL  # panels that lie side by side in the weights
    TILE, BIAS_TILE = Tile(ROWS, VECTORS, a_row=1), Tile(1, VECTORS, a_row=1)
    LARGER = Tile(ROWS + (MORE > 0), VECTORS, a_row=1)

    @kernel(
        int64, int64, int64, IMAGE, IMAGE, float32[::1], SUMS, SUMS, SUMS, SUMS, int64, int64, int64, int64,
        int64, int64, int64, int64, int64,
    )  # fmt: skip
    def conv_pointwise_weights(
        worker, first, last, x, dy, constants, stack, gathered, weights, biases, panels, outputs, inputs,
        most_pixels, stride, gather_x, gather_dy, leaves, cut,
    ):  # fmt: skip
        samples, rows, columns = dy.shape[0], dy.shape[2], dy.shape[3]
        c_blocks, pixels = x.shape[1], rows * columns
        per_leaf, share_runs = samples // leaves, leaves * cut // weights.shape[0]
        most_samples = max(1, min(per_leaf, most_pixels // pixels))
        blocks_c = ceil_div(c_blocks, inputs)
        blocks = ceil_div(panels, outputs) * blocks_c
        height = inputs * LANES + 1  # the sums of dy come behind those of the inputs
        level = 4 * outputs * height * PANEL
        base = stack.ctypes.data + worker * stack.strides[0]
        x_room = gathered.ctypes.data + worker * gathered.strides[0]
        dy_room = x_room + 4 * inputs * LANES * most_pixels
        for task in range(first, last):  # a block of weights for a group of leaves
            share, block = divmod(task, blocks)
            panel0, cb0 = block // blocks_c * outputs, block % blocks_c * inputs
            panel1, cb1 = min(panels, panel0 + outputs), min(c_blocks, cb0 + inputs)
            top = 0
            for run in range(share_runs):
                first_row, end_row = rows_of_run(share * share_runs + run, cut, per_leaf, rows)
                at, end = first_row * columns, end_row * columns  # pixels of all samples
                ready = merges(run)
                while at < end:
                    n, pixel = divmod(at, pixels)
                    number, count = 1, min(most_pixels, pixels - pixel, end - at)
                    if count == pixels:
                        number = min(most_samples, (end - at) // pixels)
                    begins = at == first_row * columns
                    at += number * count
                    next_n, next_pixel = divmod(at, pixels)
                    chunk = Chunk(n, number, pixel, count, min(next_n, samples - number), next_pixel)
                    _add_chunk(
                        TILE, LARGER, BIAS_TILE,
                        _operand(x, cb0, cb1, chunk, columns, stride, gather_x, x_room),
                        _operand(
                            dy, panel0 * VECTORS, panel1 * VECTORS, chunk, columns, 1, gather_dy, dy_room
                        ),
                        chunk, cb1 - cb0, panel1 - panel0, cb0 == 0, height,
                        Partial(base + top * level, level, begins, ready if at == end else 0),
                        constants.ctypes.data,
                    )  # fmt: skip
                top += 1 - ready
            for panel in range(panel0, panel1):
                done = base + 4 * (panel - panel0) * height * PANEL
                group, part = divmod(panel, PARTS)
                to = weights.ctypes.data + share * weights.strides[0]
                to += 4 * ((group * c_blocks + cb0) * LANES * GROUP + part * PANEL)
                for channel in range((cb1 - cb0) * LANES):
                    copy_vectors(to + 4 * channel * GROUP, done + 4 * channel * PANEL, VECTORS)
                if cb0 == 0:
                    to = biases.ctypes.data + share * biases.strides[0] + 4 * panel * PANEL
                    copy_vectors(to, done + 4 * (height - 1) * PANEL, VECTORS)

    return conv_pointwise_weights


@inline
def _add_chunk(tile, larger, bias_tile, x, dy, chunk, inputs, panels, with_bias, height, partial, constants):
    """Add the products of a chunk to the partial sums of a block, [panel][height][width].

    The first tiles ask for the next chunk, one block of channels each.
    """
    width = tile.vectors * LANES
    zero, one = constants + 0, constants + 4 * MOST_VECTORS * LANES  # signed, as slots are
    asked = 0
    for panel in range(panels):
        b = dy.address + panel * tile.vectors * dy.block
        slot = partial.slot + 4 * panel * height * width
        for cb in range(inputs):
            for index in range(TILES):
                a = x.address + cb * x.block + 4 * (index * ROWS + min(index, MORE))
                ahead, ahead_sample = a, x.sample
                if asked < inputs:
                    ahead = x.ahead + asked * x.block
                elif asked < inputs + tile.vectors * panels:
                    ahead, ahead_sample = dy.ahead + (asked - inputs) * dy.block, dy.sample
                asked += 1
                start, start_row = (zero, 0) if partial.begins else (slot, width)
                columns, begin = Columns(a, b, dy.block // 4, ahead), Rows(start, start_row)
                to = Rows(slot - partial.merged * partial.level, width)
                finished = Finished(partial.merged, slot - partial.level, partial.level)
                nest = (
                    Steps(chunk.samples, x.sample, dy.sample, ahead_sample),
                    Steps(chunk.pixels, LANES, LANES, LANES),
                )
                if index < MORE:
                    leaf_tile(larger, columns, begin, to, finished, nest)
                    slot += 4 * width
                else:
                    leaf_tile(tile, columns, begin, to, finished, nest)
                slot += 4 * ROWS * width
        if with_bias:
            slot = partial.slot + 4 * (panel * height + height - 1) * width
            leaf_tile(
                bias_tile, Columns(one, b, dy.block // 4, one), Rows(zero if partial.begins else slot, 0),
                Rows(slot - partial.merged * partial.level, 0),
                Finished(partial.merged, slot - partial.level, partial.level),
                (Steps(chunk.samples, 0, dy.sample, 0), Steps(chunk.pixels, 0, LANES, 0)),
            )  # fmt: skip


@inline
def _operand(image, block0, block1, chunk, columns, stride, gather, room):
    """Return blocks of a chunk, where they lie or gathered in `room` as [block][sample][pixel][LANES]."""
    if gather:
        target = room
        for block in range(block0, block1):
            for n in range(chunk.n, chunk.n + chunk.samples):
                plane = image.ctypes.data + n * image.strides[0] + block * image.strides[1]
                i, j = divmod(chunk.pixel, columns)
                left = chunk.pixels
                while left > 0:
                    run = min(left, columns - j)
                    source = plane + stride * (i * image.strides[2] + 4 * j * LANES)
                    copy_strided(target, source, stride * LANES, run)
                    target += 4 * run * LANES
                    left -= run
                    i, j = i + 1, 0
        floats = chunk.pixels * LANES
        return Operand(room, 4 * chunk.samples * floats, floats, room)
    blocks = image.ctypes.data + block0 * image.strides[1]
    return Operand(
        blocks + chunk.n * image.strides[0] + 4 * chunk.pixel * LANES,
        image.strides[1],
        image.strides[0] // 4,
        blocks + chunk.next_n * image.strides[0] + 4 * chunk.next_pixel * LANES,
    )


@lru_cache(maxsize=1)
def _add_groups():
    @kernel(int64, int64, int64, SUMS, float32[::1])
    def conv_pointwise_add_groups(worker, first, last, sums, total):
        groups, distance = sums.shape[0], sums.strides[0]
        for task in range(first, last):
            vectors = min(SLAB, total.size // LANES - task * SLAB)
            at = sums.ctypes.data + 4 * task * SLAB * LANES
            apart = 1
            while apart < groups:  # in place, nearest first: the upper levels of the tree
                for group in range(0, groups, 2 * apart):
                    add_vectors(at + group * distance, at + (group + apart) * distance, vectors)
                apart *= 2
            copy_vectors(total.ctypes.data + 4 * task * SLAB * LANES, at, vectors)

    return conv_pointwise_add_groups
