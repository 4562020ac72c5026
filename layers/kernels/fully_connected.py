"""Fully connected layer on the register tile: forward, backward_data and backward_weights.

The weights stay in their blocked form ``[K/(V*LANES), C, V*LANES]`` for all three passes. Small
operands (x, dy) are repacked so that the tile reads them in order; the weights are read as they lie.
Sums run over the features (forward, backward_data) or the samples of a leaf, in order.
"""

from functools import lru_cache

from numba import float32, int64

from layers.kernels.jit import kernel
from layers.kernels.leaves import stack_depth, tree_add
from layers.kernels.simd import LANES, LOAD, REGISTERS, TILE_ROWS, ZERO, tiles
from layers.kernels.threads import Threads
from layers.kernels.tiling import split_rows

VALUES = float32[:, ::1]
WEIGHT = float32[:, :, ::1]
PACKED = float32[::1]
ONCE = (1, 0, 0)  # a loop that is not needed
FEATURE_CHUNK = 1024  # features summed before the next tile: its panel of weights stays in the L2 cache


def packed_floats(samples: int, features: int) -> int:
    """Return the size of the working array that forward and backward_data need for x or dy."""
    padded = max(-(-samples // (2 * LANES)) * 2 * LANES, samples + TILE_ROWS)
    return padded * features


def forward(threads: Threads, x, weight, bias, y, packed) -> None:
    """Write y = bias + the sum over the input features, in order.

    Parameters
    ----------
    x : float32 [N, C]
    weight : float32 [K/(V*LANES), C, V*LANES]
    bias : float32 [K]
    y : float32 [N, K]
    packed : float32, at least packed_floats(N, C)
        Working memory.
    """
    samples = len(x)
    groups, _, width = weight.shape
    rows, tail = split_rows(samples, TILE_ROWS)
    threads.run(_pack_rows(rows), -(-samples // rows), x.size, x, packed)
    run = _forward(rows, tail, width // LANES)
    threads.run(run, groups, 2 * samples * weight.size, packed, weight, bias, y)


@lru_cache
def _pack_rows(ROWS):
    @kernel(int64, int64, int64, VALUES, PACKED)
    def pack_rows(worker, first, last, x, packed):
        """Lay out x as [tile][C/LANES][row][LANES]; what the last tile lacks is left as it was."""
        samples, features = x.shape
        for t in range(first, last):
            for block in range(features // LANES):
                for row in range(min(ROWS, samples - t * ROWS)):
                    at = (t * features + block * LANES) * ROWS + row * LANES
                    for lane in range(LANES):
                        packed[at + lane] = x[t * ROWS + row, block * LANES + lane]

    return pack_rows


@lru_cache
def _forward(ROWS, TAIL, VECTORS):
    WIDTH = VECTORS * LANES

    @kernel(int64, int64, int64, PACKED, WEIGHT, float32[::1], VALUES)
    def linear_forward(worker, first, last, packed, weight, bias, y):
        samples, outputs = y.shape
        features = weight.shape[1]
        for group in range(first, last):  # V vectors of outputs
            for n in range(samples):
                y[n, group * WIDTH : (group + 1) * WIDTH] = bias[group * WIDTH : (group + 1) * WIDTH]
            c = y.ctypes.data + 4 * group * WIDTH
            for start in range(0, features, FEATURE_CHUNK):
                blocks = min(FEATURE_CHUNK, features - start) // LANES
                a = packed.ctypes.data + 4 * start * ROWS
                b = weight.ctypes.data + group * weight.strides[0] + start * weight.strides[1]
                tiles(
                    ROWS, TAIL, VECTORS, LANES, LOAD, samples // ROWS, 1,
                    a, features * ROWS, b, LANES, c, outputs, LANES, 0,
                    ONCE, ONCE, (blocks, ROWS * LANES, LANES * WIDTH), (LANES, 1, WIDTH),
                )  # fmt: skip

    return linear_forward


DATA_TILES = 8  # tiles of input features that share a chunk of weights in the L2 cache


def backward_data(threads: Threads, dy, weight, dx, packed, transposed) -> None:
    """Write dx; the sum runs over the output features, in order.

    The samples are the vectors here, and the weights the scalars that are broadcast: so they are
    read in the form in which forward reads them.

    Parameters
    ----------
    dy : float32 [N, K]
    weight : float32 [K/(V*LANES), C, V*LANES]
    dx : float32 [N, C]
    packed, transposed : float32, at least packed_floats(N, K), packed_floats(N, C)
        Working memory: dy and dx with the samples innermost.
    """
    samples, outputs = dy.shape
    _, features, width = weight.shape
    vectors = 2 if -(-samples // LANES) % 2 == 0 else 1
    columns = vectors * LANES
    groups = -(-samples // columns)
    threads.run(_pack_columns(), groups * (outputs // LANES), dy.size, dy, packed, columns)
    rows, tail = split_rows(features, TILE_ROWS)
    run = _backward_data(rows, tail, vectors, width)
    tasks, work = -(-features // (DATA_TILES * rows)), 2 * groups * columns * weight.size
    threads.run(run, tasks, work, packed, weight, transposed, groups)
    threads.run(_unpack_columns(), groups * (features // LANES), dx.size, transposed, dx, columns)


@lru_cache
def _pack_columns():
    @kernel(int64, int64, int64, VALUES, PACKED, int64)
    def pack_columns(worker, first, last, x, packed, columns):
        """Lay out x as [sample group][F][sample], absent samples as zeros."""
        samples, features = x.shape
        for task in range(first, last):
            group, block = divmod(task, features // LANES)
            present = min(columns, samples - group * columns)
            for feature in range(block * LANES, (block + 1) * LANES):
                at = (group * features + feature) * columns
                for n in range(present):
                    packed[at + n] = x[group * columns + n, feature]
                for n in range(present, columns):
                    packed[at + n] = 0

    return pack_columns


@lru_cache
def _unpack_columns():
    @kernel(int64, int64, int64, PACKED, VALUES, int64)
    def unpack_columns(worker, first, last, packed, x, columns):
        samples, features = x.shape
        for task in range(first, last):
            group, block = divmod(task, features // LANES)
            for n in range(min(columns, samples - group * columns)):
                for feature in range(block * LANES, (block + 1) * LANES):
                    x[group * columns + n, feature] = packed[(group * features + feature) * columns + n]

    return unpack_columns


@lru_cache
def _backward_data(ROWS, TAIL, VECTORS, WIDTH):
    COLUMNS = VECTORS * LANES

    @kernel(int64, int64, int64, PACKED, WEIGHT, PACKED, int64)
    def linear_backward_data(worker, first, last, dy, weight, dx, groups):
        weight_groups, features = weight.shape[0], weight.shape[1]
        outputs = weight_groups * WIDTH
        chunk = max(1, FEATURE_CHUNK // WIDTH)
        for task in range(first, last):  # DATA_TILES tiles of input features, fewer and the tail at the end
            c0 = task * DATA_TILES * ROWS
            c1 = min(features, c0 + DATA_TILES * ROWS)
            for group in range(groups):
                dx[(group * features + c0) * COLUMNS : (group * features + c1) * COLUMNS] = 0
            for kg in range(0, weight_groups, chunk):
                n_groups = min(chunk, weight_groups - kg)
                a = weight.ctypes.data + kg * weight.strides[0] + 4 * c0 * WIDTH
                for group in range(groups):
                    b = dy.ctypes.data + 4 * (group * outputs + kg * WIDTH) * COLUMNS
                    c = dx.ctypes.data + 4 * (group * features + c0) * COLUMNS
                    tiles(
                        ROWS, TAIL, VECTORS, WIDTH, LOAD, (c1 - c0) // ROWS, (c1 - c0) % ROWS > 0,
                        a, ROWS * WIDTH, b, LANES, c, COLUMNS, LANES, 0,
                        ONCE, ONCE, (n_groups, features * WIDTH, WIDTH * COLUMNS), (WIDTH, 1, COLUMNS),
                    )  # fmt: skip

    return linear_backward_data


WEIGHT_ROWS = 8 if REGISTERS == 32 and LANES % 8 == 0 else 4


def weight_stack_shape(leaves: int, width: int, threads: int) -> tuple[int, ...]:
    """Return the shape of the partial sums of backward_weights, one stack a thread."""
    return threads, stack_depth(leaves), LANES, width


def backward_weights(threads: Threads, x, dy, packed_x, packed_dy, stack, gradient, leaves: int) -> None:
    """Write the gradient: inside a leaf over its samples, in order; leaves as a tree.

    Parameters
    ----------
    x : float32 [N, C]
    dy : float32 [N, K]
    packed_x, packed_dy : float32, at least packed_floats(N, C), packed_floats(N, K)
        Working memory: x and dy in blocks of features, which a tile reads in order.
    stack : float32, shape from `weight_stack_shape`
        Working memory: partial sums.
    gradient : float32 [K/(V*LANES), C, V*LANES]
    """
    samples = len(x)
    groups, features, width = gradient.shape
    threads.run(_pack_blocks(), features // LANES, x.size, x, packed_x, LANES)
    threads.run(_pack_blocks(), groups, dy.size, dy, packed_dy, width)
    run = _backward_weights(WEIGHT_ROWS, width // LANES)
    tasks, work = groups * (features // LANES), 2 * samples * gradient.size
    threads.run(run, tasks, work, packed_x, packed_dy, stack, gradient, samples, leaves)


@lru_cache
def _pack_blocks():
    @kernel(int64, int64, int64, VALUES, PACKED, int64)
    def pack_blocks(worker, first, last, x, packed, width):
        """Lay out x as [F/width][N][width]."""
        samples = x.shape[0]
        for block in range(first, last):
            for n in range(samples):
                at = (block * samples + n) * width
                for lane in range(width):
                    packed[at + lane] = x[n, block * width + lane]

    return pack_blocks


@lru_cache
def _backward_weights(ROWS, VECTORS):
    WIDTH = VECTORS * LANES

    @kernel(int64, int64, int64, PACKED, PACKED, float32[:, :, :, ::1], WEIGHT, int64, int64)
    def linear_backward_weights(worker, first, last, x, dy, stack, gradient, samples, leaves):
        blocks = gradient.shape[1] // LANES
        per_leaf = samples // leaves
        level = stack.strides[1]
        base = stack.ctypes.data + worker * stack.strides[0]
        for task in range(first, last):  # LANES input features by V vectors of outputs
            kg, block = divmod(task, blocks)
            a = x.ctypes.data + 4 * block * samples * LANES
            b = dy.ctypes.data + 4 * kg * samples * WIDTH
            top = 0
            for leaf in range(leaves):
                n = leaf * per_leaf
                for row in range(0, LANES, ROWS):
                    tiles(
                        ROWS, 0, VECTORS, 1, ZERO, 1, 0,
                        a + 4 * (n * LANES + row), 0, b + 4 * n * WIDTH, LANES,
                        base + top * level + 4 * row * WIDTH, WIDTH, LANES, 0,
                        ONCE, ONCE, ONCE, (per_leaf, LANES, WIDTH),
                    )  # fmt: skip
                top = tree_add(base, level, top, leaf, LANES * VECTORS)
            gradient[kg, block * LANES : (block + 1) * LANES, :] = stack[worker, 0]

    return linear_backward_weights


def bias_gradient(threads: Threads, dy, stack, gradient, leaves: int) -> None:
    """Write the sum of dy over the samples: inside a leaf in order, leaves as a tree.

    Parameters
    ----------
    stack : float32 [threads, stack_depth(leaves), LANES]
        Working memory.
    gradient : float32 [K]
    """
    threads.run(_bias_gradient(), dy.shape[1] // LANES, dy.size, dy, stack, gradient, leaves)


@lru_cache
def _bias_gradient():
    @kernel(int64, int64, int64, VALUES, float32[:, :, ::1], float32[::1], int64)
    def linear_bias_gradient(worker, first, last, dy, stack, gradient, leaves):
        per_leaf = dy.shape[0] // leaves
        for block in range(first, last):
            top = 0
            for leaf in range(leaves):
                total = stack[worker, top]
                total[:] = 0
                for n in range(leaf * per_leaf, (leaf + 1) * per_leaf):
                    for k in range(LANES):
                        total[k] += dy[n, block * LANES + k]
                top = tree_add(stack[worker].ctypes.data, stack.strides[1], top, leaf, 1)
            for k in range(LANES):
                gradient[block * LANES + k] = stack[worker, 0, k]

    return linear_bias_gradient
