"""Fully connected layer on the register tile: forward, backward_data and backward_weights.

The weights stay in their blocked form ``[K/(V*LANES), C, V*LANES]`` for all three passes and are read
as they lie, once for each block of samples. x and dy are repacked so that a tile reads them in order.
Sums run over the input features or the samples of a leaf in order. The sum over the output features, which
may lie on several ranks, is cut into feature leaves: runs of outputs, each summed in order, added as a tree.
"""

from functools import lru_cache

import numpy as np
from numba import float32, int64

from layers.arithmetic import ceil_div
from layers.kernels import bf16, gemm, packing
from layers.kernels.flush_mode import begin_flushing, end_flushing
from layers.kernels.jit import kernel
from layers.kernels.leaves import merges, stack_depth, tree_add_unflushed
from layers.kernels.matrix_tiles import (
    Finished,
    LeafTile,
    Rows,
    Samples,
    StreamLoop,
    Streams,
    StreamTile,
    leaf_tiles,
    stream_tiles,
)
from layers.kernels.paired_tile import PAIRED_ROWS
from layers.kernels.register_tile import TILE_ROWS
from layers.kernels.simd import LANES, finish_streaming
from layers.kernels.target import TARGET
from layers.kernels.threads import Threads
from layers.kernels.tiling import split_rows

VALUES = float32[:, ::1]
WEIGHT = float32[:, :, ::1]
PACKED = float32[::1]
STACK = float32[:, ::1]


def tiles_floats(samples: int, features: int, *, paired: bool = False) -> int:
    """Return the size of x as forward packs it."""
    return packing.tiles_floats(samples, features, _most(paired))


def forward(threads: Threads, x, weight, bias, y, packed, *, paired: bool = False) -> None:
    """Write y = bias + the sum over the input features, in order.

    Parameters
    ----------
    x : float32 [N, C]
    weight : float32 [K/(V*LANES), C, V*LANES]
    bias : float32 [K]
    y : float32 [N, K]
    packed : float32, at least tiles_floats(N, C)
        Working memory.
    paired : bool
        x is taken for bf16 values, which weight holds: the sums are those of `paired_tile`.
    """
    rows, _ = split_rows(len(x), _most(paired))
    packing.pack_columns(threads, x, packed, rows)
    if paired:
        _round(threads, packed, ceil_div(len(x), rows) * x.shape[1] * packing.pitch(rows))
    gemm.multiply(threads, packed, rows, weight, bias, y, paired=paired)


def _round(threads: Threads, packed, floats: int) -> None:
    bf16.round_values(threads, packed[:floats], packed[:floats])


FEATURE_LEAVES = 16
"""Feature leaves of a layer, and so its parts, at most; half of that below 4096 outputs."""

_LONG = 256  # outputs of a feature leaf: adding shorter ones up costs several % of computing them
LEAF_UNIT = 2 * LANES
"""Outputs of which feature leaves are multiples, so that groups of one or two vectors begin with a leaf."""


def outputs_per_leaf(outputs: int) -> int:
    """Return the length of a feature leaf of a whole layer; the last one may be shorter.

    The number of leaves is a power of two, and none is empty.
    """
    units = ceil_div(outputs, LEAF_UNIT)
    leaves = FEATURE_LEAVES if outputs >= FEATURE_LEAVES * _LONG else FEATURE_LEAVES // 2
    while (leaves - 1) * ceil_div(units, leaves) >= units:
        leaves //= 2
    return ceil_div(units, leaves) * LEAF_UNIT


OUTPUTS = 256  # outputs summed before the next tile: 32 KB of dy stay in L1
DATA_TILES = 8 if TARGET.registers == 32 else 16  # of features for each such dy: 0.1 MB of weights in L2
DATA_PANELS = 4 if TARGET.registers == 32 else 6
"""Panels of samples whose unfinished dx, at most 57 KB for each level of the tree, stays in L2."""


def _most(paired: bool) -> int:
    """Return the most rows of a tile."""
    return PAIRED_ROWS if paired else TILE_ROWS


def _data_blocks(samples: int, features: int, paired: bool) -> tuple[int, int, int, int, int]:
    """Return (vectors, panels of a block, blocks of panels, tiles of a block, blocks of tiles)."""
    vectors = 2 if ceil_div(samples, LANES) % 2 == 0 else 1
    sample_blocks, panels = gemm.even_blocks(ceil_div(samples, vectors * LANES), DATA_PANELS)
    tiles = ceil_div(features, split_rows(features, _most(paired))[0])
    most = min(DATA_TILES, max(4, tiles * sample_blocks // 32))  # 32 tasks at least, if the shape has them
    feature_blocks, block_tiles = gemm.even_blocks(tiles, most)
    return vectors, panels, sample_blocks, block_tiles, feature_blocks


def data_stack_shape(
    samples: int, features: int, leaves: int, threads: int, *, paired: bool = False
) -> tuple[int, int]:
    """Return the shape of the unfinished dx of backward_data, one row a thread."""
    vectors, panels, _, tiles, _ = _data_blocks(samples, features, paired)
    return threads, stack_depth(leaves) * panels * tiles * _most(paired) * vectors * LANES


ZEROS = np.zeros(2 * LANES, np.float32)  # the start of a sum


def backward_data(
    threads: Threads, dy, weight, dx, packed, stack, leaf: int, *, paired: bool = False
) -> None:
    """Write dx: inside a feature leaf the sum over its outputs, in order; feature leaves as a tree.

    The samples are the vectors here, and the weights the scalars that are broadcast: so they are
    read in the form in which forward reads them.

    Parameters
    ----------
    dy : float32 [N, K]
    weight : float32 [K/(V*LANES), C, V*LANES]
    dx : float32 [N, C]
    packed : float32, at least packing.panels_floats(N, K)
        Working memory: dy with the samples innermost.
    stack : float32, shape from `data_stack_shape`
        Working memory: unfinished blocks of dx, with the samples innermost.
    leaf : int
        Outputs of a feature leaf, from `outputs_per_leaf` of the whole layer; K has a power of two of leaves.
    paired : bool
        dy and weight hold bf16 values: the sums of a leaf are those of `paired_tile`.
    """
    samples = len(dy)
    _, features, width = weight.shape
    vectors, panels, sample_blocks, tiles, feature_blocks = _data_blocks(samples, features, paired)
    packing.pack_columns(threads, dy, packed, vectors * LANES)
    rows, tail = split_rows(features, _most(paired))
    run = _backward_data(rows, tail, vectors, width, paired)
    tasks, work = sample_blocks * feature_blocks, 2 * samples * weight.size
    threads.run(run, tasks, work, packed, weight, ZEROS, stack, dx, panels, tiles, leaf // width)


@lru_cache
def _backward_data(ROWS, TAIL, VECTORS, GROUP, PAIRED=False):
    COLUMNS = VECTORS * LANES
    TILE = StreamTile(
        ROWS, VECTORS, a_row=GROUP, tail=TAIL, fetch_b=not gemm.IS_NARROW, paired=GROUP if PAIRED else 0
    )

    @kernel(int64, int64, int64, PACKED, WEIGHT, PACKED, STACK, VALUES, int64, int64, int64)
    def linear_backward_data(
        worker, first, last, dy, weight, zeros, stack, dx, block_panels, block_tiles, leaf_groups
    ):
        samples = dx.shape[0]
        groups, features = weight.shape[0], weight.shape[1]
        outputs, a_group = groups * GROUP, features * GROUP
        feature_blocks = ceil_div(features, block_tiles * ROWS)
        part = stack[worker]
        chunk = OUTPUTS // GROUP
        if PAIRED:
            begin_flushing()
        for task in range(first, last):  # some panels of samples by some tiles of input features
            sample_block, feature_block = divmod(task, feature_blocks)
            panel0 = sample_block * block_panels
            panels = min(block_panels, ceil_div(samples, COLUMNS) - panel0)
            c0 = feature_block * block_tiles * ROWS
            height = min(block_tiles * ROWS, features - c0)
            block, top = panels * height * COLUMNS, 0
            for leaf in range(ceil_div(groups, leaf_groups)):
                begin, end = leaf * leaf_groups, min(groups, (leaf + 1) * leaf_groups)
                ready = merges(leaf)
                for group in range(begin, end, chunk):
                    n_groups = min(chunk, end - group)
                    a = weight.ctypes.data + group * weight.strides[0] + 4 * c0 * GROUP
                    for panel in range(panels):
                        b = dy.ctypes.data + 4 * ((panel0 + panel) * outputs + group * GROUP) * COLUMNS
                        slot = part.ctypes.data + 4 * (top * block + panel * height * COLUMNS)
                        c, sums = slot, 0
                        start, start_row = slot, COLUMNS
                        if group + chunk >= end and not PAIRED:  # the leaf is done
                            sums, c = ready, c - 4 * ready * block
                        if group == begin:
                            start, start_row = zeros.ctypes.data, 0
                        stream_tiles(  # and fetch the next group's weights, and those of the tile after next
                            TILE, height // ROWS, height % ROWS > 0,
                            Streams(a, b, near=a + weight.strides[0], ahead=a + 8 * ROWS * GROUP),
                            Streams(ROWS * GROUP, 0, near=ROWS * GROUP, ahead=ROWS * GROUP),
                            Rows(start, start_row), Rows(c, COLUMNS),
                            Finished(sums, slot - 4 * block, 4 * block),
                            (
                                StreamLoop(n_groups, a_group, GROUP * COLUMNS, near=a_group, ahead=a_group),
                                StreamLoop(GROUP, 1, COLUMNS, near=ROWS, ahead=ROWS),
                            ),
                        )  # fmt: skip
                if PAIRED:
                    top = tree_add_unflushed(part.ctypes.data, 4 * block, top, leaf, block // LANES)
                else:
                    top += 1 - ready
            for panel in range(panels):
                n0, finished = (panel0 + panel) * COLUMNS, part[panel * height * COLUMNS :]
                packing.unpack_columns(finished, dx, n0, c0, height, COLUMNS)
        if PAIRED:
            end_flushing()

    return linear_backward_data


WEIGHT_BLOCK = 1 << 18  # floats of x, 1 MB of L2, that stay while dy passes by
SHORT_LEAF = 8  # samples; adding shorter leaves up costs as much as computing them
SHORT_ROWS = 4
MIDDLE_LEAF = 32  # samples; two such leaves of a tile of half the rows fit the registers
SHORT_SUBTREE = 4 if TARGET.registers == 32 else 2  # leaves that fit the registers with tiles of so few rows
STREAM_BYTES = 1 << 25  # larger gradients leave the caches before they are read
ONE = np.ones(1, np.float32)


def _weight_tiles(features: int, leaves: int, per_leaf: int, paired: bool) -> tuple[int, int, int]:
    """Return the rows and tail of the tiles of backward_weights, and the leaves added in registers."""
    if paired:
        return *split_rows(features, PAIRED_ROWS), 1
    if per_leaf <= SHORT_LEAF:
        return SHORT_ROWS, 0, min(SHORT_SUBTREE, leaves)
    if per_leaf <= MIDDLE_LEAF and not gemm.IS_NARROW:
        return *split_rows(features, TILE_ROWS // 2), min(2, leaves)
    return *split_rows(features, TILE_ROWS), 1


def _slice(rows: int) -> tuple[int, int]:
    """Return the features of a slice of x, as many whole tiles as its pitch holds, and the pitch."""
    pitch = packing.pitch(rows)
    return pitch // rows * rows, pitch


def slices_floats(features: int, leaves: int, samples: int, *, paired: bool = False) -> int:
    """Return the size of x as backward_weights packs it."""
    rows, _, _ = _weight_tiles(features, leaves, samples // leaves, paired)
    return packing.slices_floats(features, samples, *_slice(rows))


def weight_stack_shape(leaves: int, width: int, threads: int) -> tuple[int, int]:
    """Return the shape of the partial sums of backward_weights, one stack a thread."""
    return threads, stack_depth(leaves) * TILE_ROWS * width


def backward_weights(
    threads: Threads,
    x,
    dy,
    packed_x,
    packed_dy,
    stack,
    gradient,
    bias_gradient,
    leaves: int,
    *,
    paired: bool = False,
) -> None:
    """Write the gradients: inside a leaf over its samples, in order; leaves as a tree.

    Parameters
    ----------
    x : float32 [N, C]
    dy : float32 [N, K]
    packed_x, packed_dy : float32, at least slices_floats(C, leaves, N), N * K
        Working memory: x and dy in slices of features, which a tile reads in order.
    stack : float32, shape from `weight_stack_shape`
        Working memory: partial sums.
    gradient : float32 [K/(V*LANES), C, V*LANES]
    bias_gradient : float32 [K]
    paired : bool
        x is taken for bf16 values, which dy holds: the sums of weights in a leaf are those of `paired_tile`.
    """
    samples = len(x)
    groups, features, width = gradient.shape
    rows, tail, subtree = _weight_tiles(features, leaves, samples // leaves, paired)
    slice_width, pitch = _slice(rows)
    packing.pack_slices(threads, x, packed_x, slice_width, pitch)
    if paired:
        _round(threads, packed_x, packing.slices_floats(features, samples, slice_width, pitch))
    packing.pack_slices(threads, dy, packed_dy, width, width)
    stream = int(gradient.nbytes > STREAM_BYTES and gradient.ctypes.data % (4 * LANES) == 0)
    slices = ceil_div(features, slice_width)
    blocks, block_slices = gemm.even_blocks(slices, max(4, WEIGHT_BLOCK // (samples * pitch)))
    run = _backward_weights(rows, tail, width // LANES, subtree, stream, paired)
    threads.run(
        run, blocks * groups, 2 * samples * gradient.size,
        packed_x, packed_dy, ONE, stack, gradient, bias_gradient, samples, leaves, block_slices,
    )  # fmt: skip


@lru_cache
def _backward_weights(ROWS, TAIL, VECTORS, SUBTREE, STREAM, PAIRED=False):
    PANEL = VECTORS * LANES
    PITCH = packing.pitch(ROWS)
    TILES = PITCH // ROWS  # in a slice of x
    TILE = LeafTile(ROWS, VECTORS, SUBTREE, TAIL, bool(STREAM), PAIRED)
    BIAS_TILE = LeafTile(1, VECTORS, SUBTREE)

    @kernel(
        int64, int64, int64, PACKED, PACKED, float32[::1], STACK, WEIGHT, float32[::1], int64, int64, int64
    )
    def linear_backward_weights(
        worker, first, last, x, dy, one, stack, gradient, bias_gradient, samples, leaves, block_slices
    ):
        groups, features = gradient.shape[0], gradient.shape[1]
        slices = ceil_div(features, TILES * ROWS)
        part = stack[worker].ctypes.data
        if PAIRED:
            begin_flushing()
        for task in range(first, last):  # some slices of input features by V vectors of outputs
            block, group = divmod(task, groups)
            b = dy.ctypes.data + 4 * group * samples * PANEL
            if block == 0:
                if PAIRED:
                    end_flushing()
                leaf_tiles(
                    BIAS_TILE, 1, 0, Samples(one.ctypes.data, tile=0, sample=0), b, part,
                    bias_gradient.ctypes.data + 4 * group * PANEL, leaves, samples // leaves,
                )  # fmt: skip
                if PAIRED:
                    begin_flushing()
            for i in range(block * block_slices, min(slices, (block + 1) * block_slices)):
                left = min(TILES * ROWS, features - i * TILES * ROWS)
                x_slice = x.ctypes.data + 4 * i * samples * PITCH
                leaf_tiles(
                    TILE, left // ROWS, left % ROWS > 0,
                    Samples(x_slice, tile=ROWS, sample=PITCH), b, part,
                    gradient.ctypes.data + group * gradient.strides[0] + 4 * i * TILES * ROWS * PANEL,
                    leaves, samples // leaves,
                )  # fmt: skip
        if PAIRED:
            end_flushing()
        if STREAM:
            finish_streaming()

    return linear_backward_weights
