"""Fully connected layer of bf16 on the tile unit: forward, backward_data and backward_weights.

All three are one product of packed tiles: rows of A are samples (of weight gradients: features), columns of B
outputs (or features). Terms are cut into leaves of blocks of 32; those of a leaf are added in order, leaves
as a tree. Some blocks of terms of A stay in the first-level cache while B passes by; sums wait in the second.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import float32, int64, types

from layers.arithmetic import ceil_div
from layers.kernels.jit import kernel
from layers.kernels.leaves import stack_depth, tree_add, tree_add_unflushed
from layers.kernels.linear_tile_packing import pack_columns, pack_rows, pack_samples, pack_turned_columns
from layers.kernels.register_tile import LOAD
from layers.kernels.simd import LANES, add_vectors, copy_vectors
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
from layers.kernels.tile_sums import VECTOR_BYTES, write_sums
from layers.kernels.tile_unit import MEMORY_FLOATS, ROWS, TERMS, TILE_BYTES, TileUnit

FLOATS = float32[::1]
ZEROS = np.zeros(LANES, np.float32)  # the start of a sum
DEPTH = 16  # blocks of terms: 32 KB of two tiles of A
ROW_TILES, COLUMN_TILES = 8, 32  # of a task, whose sums then take 256 KB for each level of the tree
LEVELS = 2  # of so many tiles; more levels of fewer
TASKS_PER_THREAD = 4
TILE_FLOATS = TILE_BYTES // 4


class Room(NamedTuple):
    """Floats of working memory."""

    a: int
    b: int
    tiles: tuple[int, int]
    """One row a thread."""


class Product(NamedTuple):
    """The shape of a product, in tiles of rows and columns, and in blocks of terms."""

    rows: int
    columns: int
    terms: int
    leaf: int
    """Blocks of terms of a leaf; the last one may be shorter."""

    def room(self, threads: int) -> Room:
        """Return the working memory."""
        row_tiles, column_tiles = self.task(threads)
        staged = self.levels * row_tiles * column_tiles
        return Room(
            self.rows * self.terms * TILE_FLOATS,
            self.columns * self.terms * TILE_FLOATS,
            (threads, MEMORY_FLOATS + staged * TILE_FLOATS),
        )

    @property
    def levels(self) -> int:
        """Return the partial sums that the tree over leaves needs at once."""
        return stack_depth(ceil_div(self.terms, self.leaf))

    def task(self, threads: int) -> tuple[int, int]:
        """Return the tiles of rows and columns of a task: many, but enough tasks for all threads."""
        rows, columns = min(ROW_TILES, self.rows), min(COLUMN_TILES, self.columns)
        if self.levels > LEVELS:
            columns = min(columns, max(2, COLUMN_TILES * LEVELS // self.levels // 2 * 2))
        while ceil_div(self.rows, rows) * ceil_div(self.columns, columns) < TASKS_PER_THREAD * threads:
            if columns > 2:
                columns = max(2, columns // 4 * 2)
            elif rows > 2:
                rows = max(2, rows // 4 * 2)
            else:
                break
        return rows, columns


class Result(NamedTuple):
    """Where the sums of a product go: tiles of some rows, in groups of 16 columns; distances in bytes."""

    tile_rows: int
    number: int
    """All rows."""
    row: int
    per_group: int
    """Tiles side by side in a row, before the next group."""
    group: int


def forward_product(samples: int, features: int, outputs: int) -> Product:
    """Return the product of `forward`; features and outputs are those in memory."""
    terms = ceil_div(features, TERMS)
    return Product(ceil_div(samples, ROWS), outputs // LANES, terms, terms)


def data_product(samples: int, features: int, outputs: int, leaf: int) -> Product:
    """Return the product of `backward_data`; `leaf` counts outputs."""
    terms = ceil_div(outputs, TERMS)
    return Product(ceil_div(samples, ROWS), features // LANES, terms, min(terms, leaf // TERMS))


def weights_product(samples: int, features: int, outputs: int, leaves: int) -> Product:
    """Return the product of `backward_weights`."""
    leaf = ceil_div(samples // leaves, TERMS)
    return Product(features // LANES, outputs // LANES, leaves * leaf, leaf)


def forward(threads: Threads, unit: TileUnit, x, weight, bias, y, packed: tuple[Any, ...]) -> None:
    """Write y = bias + the sum over blocks of 32 input features, in order.

    Parameters
    ----------
    x : float32 [N, C]
    weight : float32 [K/(V*LANES), C, V*LANES]
    bias : float32 [K]
    y : float32 [N, K]
    packed : three of float32, sizes from the product's `room`
        Working memory.
    """
    product = forward_product(len(x), x.shape[1], y.shape[1])
    rows = ceil_div(len(x), product.rows)
    pack_rows(threads, x, packed[0], packed[2], rows)
    pack_columns(threads, weight, packed[1], packed[2])
    result = Result(rows, len(x), y.strides[0], product.columns, 0)
    _multiply(threads, unit, product, packed, bias, VECTOR_BYTES, y, result)


def backward_data(
    threads: Threads, unit: TileUnit, dy, weight, dx, packed: tuple[Any, ...], leaf: int
) -> None:
    """Write dx: inside a feature leaf the sum over blocks of 32 outputs, in order; feature leaves as a tree.

    Parameters
    ----------
    dy : float32 [N, K]
    weight : float32 [K/(V*LANES), C, V*LANES]
    dx : float32 [N, C]
    packed : three of float32, sizes from the product's `room`
        Working memory.
    leaf : int
        Outputs of a feature leaf, from `fully_connected.outputs_per_leaf` of the whole layer.
    """
    product = data_product(len(dy), dx.shape[1], dy.shape[1], leaf)
    rows = ceil_div(len(dy), product.rows)
    pack_rows(threads, dy, packed[0], packed[2], rows)
    pack_turned_columns(threads, weight, packed[1], packed[2])
    result = Result(rows, len(dy), dx.strides[0], product.columns, 0)
    _multiply(threads, unit, product, packed, ZEROS, 0, dx, result)


def backward_weights(
    threads: Threads, unit: TileUnit, x, dy, packed: tuple[Any, ...], gradient, bias_gradient, leaves: int
) -> None:
    """Write the gradients: inside a leaf over blocks of 32 of its samples, in order; leaves as a tree.

    That of bias is a sum of float32, sample by sample.

    Parameters
    ----------
    x : float32 [N, C]
    dy : float32 [N, K]
    packed : three of float32, sizes from the product's `room`
        Working memory.
    gradient : float32 [K/(V*LANES), C, V*LANES]
    bias_gradient : float32 [K]
    """
    product = weights_product(len(x), x.shape[1], dy.shape[1], leaves)
    pack_samples(threads, x, packed[0], packed[2], leaves, turned=True)
    pack_samples(threads, dy, packed[1], packed[2], leaves, turned=False)
    result = Result(ROWS, x.shape[1], gradient.strides[1], gradient.shape[2] // LANES, gradient.strides[0])
    _multiply(threads, unit, product, packed, ZEROS, 0, gradient, result)
    threads.run(_bias_gradient(), dy.shape[1] // LANES, dy.size, dy, packed[2], bias_gradient, leaves)


def _multiply(threads: Threads, unit, product: Product, packed, start, start_step, y, result: Result) -> None:
    """Compute a product of what is packed; tiles side by side start `start_step` bytes apart."""
    rows, columns = product.task(threads.count)
    tasks = ceil_div(product.rows, rows) * ceil_div(product.columns, columns)
    work = 2 * product.rows * product.columns * product.terms * ROWS * LANES * TERMS
    threads.run(
        _kernel(unit), tasks, work, packed[0], packed[1], start, y.reshape(-1), packed[2], product, result,
        rows, columns, start_step, DEPTH,
    )  # fmt: skip


def _tuple(kind):
    return types.NamedUniTuple(int64, len(kind._fields), kind)


@lru_cache
def _kernel(UNIT):
    SHAPES = ((2, 2), (2, 1), (1, 2), (1, 1))
    FOUR, BELOW, BESIDE, ONE = (TileBlock(UNIT, *tiles, 2, LOAD) for tiles in SHAPES)

    @kernel(
        int64, int64, int64, FLOATS, FLOATS, FLOATS, FLOATS, float32[:, ::1], _tuple(Product), _tuple(Result),
        int64, int64, int64, int64,
    )  # fmt: skip
    def linear_tiles(
        worker,
        first,
        last,
        a,
        b,
        start,
        y,
        memory,
        product,
        result,
        task_rows,
        task_columns,
        start_step,
        depth,
    ):
        unit = memory.ctypes.data + worker * memory.strides[0]
        staged = unit + 4 * MEMORY_FLOATS
        terms = product.terms
        begin_tiles(FOUR, unit, result.tile_rows)
        for task in range(first, last):  # some tiles of rows by some of columns
            row_block, column_block = divmod(task, ceil_div(product.columns, task_columns))
            r0, c0 = row_block * task_rows, column_block * task_columns
            r1, c1 = min(product.rows, r0 + task_rows), min(product.columns, c0 + task_columns)
            below = (c1 - c0) * TILE_BYTES
            level, top = (r1 - r0) * below, 0
            for leaf in range(ceil_div(terms, product.leaf)):
                slot, begin = staged + top * level, leaf * product.leaf
                end = min(terms, begin + product.leaf)
                for term in range(begin, end, depth):
                    nest = (TileLoop(min(depth, end - term), TILE_BYTES, TILE_BYTES),)
                    for r in range(r0, r1, 2):
                        a0 = a.ctypes.data + (r * terms + term) * TILE_BYTES
                        a1 = a0 + terms * TILE_BYTES
                        for c in range(c0, c1, 2):
                            s0 = slot + (r - r0) * below + (c - c0) * TILE_BYTES
                            s1 = s0 + below
                            f0, f1, row, tile = s0, s1, VECTOR_BYTES, TILE_BYTES
                            if term == begin:
                                f0 = start.ctypes.data + c * start_step
                                f1, row, tile = f0, 0, start_step
                            pairs = Pairs(b.ctypes.data + (c * terms + term) * TILE_BYTES, terms * TILE_BYTES)
                            two, from_two = Tiles((a0, a1), LINE, 0), Tiles((f0, f1), row, tile)
                            to_two = Tiles((s0, s1), VECTOR_BYTES, TILE_BYTES)
                            one, from_one = Tiles((a0,), LINE, 0), Tiles((f0,), row, tile)
                            to_one = Tiles((s0,), VECTOR_BYTES, TILE_BYTES)
                            if r + 1 < r1 and c + 1 < c1:
                                multiply_tiles(FOUR, unit, two, pairs, from_two, to_two, nest)
                            elif r + 1 < r1:
                                multiply_tiles(BELOW, unit, two, pairs, from_two, to_two, nest)
                            elif c + 1 < c1:
                                multiply_tiles(BESIDE, unit, one, pairs, from_one, to_one, nest)
                            else:
                                multiply_tiles(ONE, unit, one, pairs, from_one, to_one, nest)
                write_sums(slot, VECTOR_BYTES, slot, VECTOR_BYTES, level // VECTOR_BYTES)
                top = tree_add_unflushed(staged, level, top, leaf, level // VECTOR_BYTES)
            for r in range(r0, r1):
                for c in range(c0, c1):
                    source = staged + (r - r0) * below + (c - c0) * TILE_BYTES
                    to = y.ctypes.data + r * result.tile_rows * result.row
                    to += c // result.per_group * result.group + c % result.per_group * VECTOR_BYTES
                    for row in range(min(result.tile_rows, result.number - r * result.tile_rows)):
                        copy_vectors(to + row * result.row, source + row * VECTOR_BYTES, 1)
        end_tiles(FOUR, unit)

    return linear_tiles


@lru_cache(maxsize=1)
def _bias_gradient():
    @kernel(int64, int64, int64, float32[:, ::1], float32[:, ::1], FLOATS, int64)
    def linear_bias_gradient(worker, first, last, dy, memory, gradient, leaves):
        per_leaf = dy.shape[0] // leaves
        base = memory.ctypes.data + worker * memory.strides[0]
        for task in range(first, last):  # 16 outputs
            top = 0
            for leaf in range(leaves):
                memory[worker, top * LANES : (top + 1) * LANES] = float32(0)
                source = dy.ctypes.data + leaf * per_leaf * dy.strides[0] + task * VECTOR_BYTES
                for n in range(per_leaf):
                    add_vectors(base + top * VECTOR_BYTES, source + n * dy.strides[0], 1)
                top = tree_add(base, VECTOR_BYTES, top, leaf, 1)
            copy_vectors(gradient.ctypes.data + task * VECTOR_BYTES, base, 1)

    return linear_bias_gradient
