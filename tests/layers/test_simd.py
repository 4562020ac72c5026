"""The register tile, and intrinsics on vectors, against plain numpy."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
from numba import int64
from numpy.typing import NDArray

from layers.kernels.jit import kernel
from layers.kernels.register_tile import (
    LOAD,
    TILE_ROWS,
    ZERO,
    Loop,
    Sums,
    Tile,
    Vectors,
    multiply_tile,
)
from layers.kernels.simd import LANES, add_vectors
from layers.kernels.winograd_sums import sum_tiles

Array = NDArray[np.float32]
Steps = tuple[int, int, int]
"""Length, step in A, step in B."""


@lru_cache
def _tile(rows: int, vectors: int, a_row: int, start: int) -> Callable[..., None]:
    tile = Tile(rows, vectors, a_row, start)

    @kernel(*[int64] * 18)
    def call(a, b, c, n1, a1, b1, n2, a2, b2, n3, a3, b3, n4, a4, b4, b_vector, c_row, c_vector):
        multiply_tile(
            tile, a, Vectors(b, b_vector), Sums(c, c_row, c_vector),
            (Loop(n1, a1, b1), Loop(n2, a2, b2), Loop(n3, a3, b3), Loop(n4, a4, b4)),
        )  # fmt: skip

    return call


def _expected(
    shape: tuple[int, int, int], start: int, loops: list[Steps], a: Array, b: Array, c: Array
) -> Array:
    """Compute the tile in float64; `a` and `b` begin at the first element read, as flat functions."""
    rows, vectors, a_row = shape
    total = np.zeros((rows, vectors, LANES))
    if start == LOAD:
        total += c
    for index in np.ndindex(*(count for count, _, _ in loops)):
        a_at = sum(i * a_step for i, (_, a_step, _) in zip(index, loops, strict=True))
        b_at = sum(i * b_step for i, (_, _, b_step) in zip(index, loops, strict=True))
        scalars = [a[MIDDLE + a_at + row * a_row] for row in range(rows)]
        vector = b[MIDDLE + b_at : MIDDLE + b_at + vectors * LANES].reshape(vectors, LANES)
        total += np.multiply.outer(np.array(scalars, np.float64), vector)
    return total


MIDDLE = 4096
"""Where the sums begin in A and B: steps lead both ways."""

UP = [(2, 70, 300), (3, 20, 90), (2, 5, 35), (4, 1, 2)]
DOWN = [(2, -70, 300), (3, 20, -90), (2, -5, -35), (4, -1, -2)]
EMPTY = [(2, 70, 300), (0, 20, 90), (2, 5, 35), (4, 1, 2)]


@pytest.mark.parametrize("loops", [UP, DOWN, EMPTY], ids=["up", "down", "empty"])
@pytest.mark.parametrize("start", [ZERO, LOAD])
@pytest.mark.parametrize("shape", [(1, 1, 1), (TILE_ROWS, 2, LANES), (4, 4, 3), (3, 2, 2 * LANES)])
def test_tile_equals_numpy(shape: tuple[int, int, int], start: int, loops: list[Steps]) -> None:
    rows, vectors, a_row = shape
    generator = np.random.default_rng(0)
    a, b = (generator.standard_normal(2 * MIDDLE, dtype=np.float32) for _ in range(2))
    c = generator.standard_normal((rows, vectors + 1, LANES), dtype=np.float32)
    before = c.copy()
    expected = _expected(shape, start, loops, a, b, c[:, :vectors])
    flat = [value for loop in loops for value in loop]
    addresses = (a.ctypes.data + 4 * MIDDLE, b.ctypes.data + 4 * MIDDLE, c.ctypes.data)
    _tile(rows, vectors, a_row, start)(*addresses, *flat, LANES, (vectors + 1) * LANES, LANES)
    # At most 48 terms of a few units each, rounded to 6e-8.
    np.testing.assert_allclose(c[:, :vectors], expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(c[:, vectors], before[:, vectors])


def test_negative_distances_in_c_and_between_vectors_of_b() -> None:
    rows, vectors = 3, 2
    generator = np.random.default_rng(0)
    a, b = (generator.standard_normal(64, dtype=np.float32) for _ in range(2))
    c = np.zeros((rows, vectors, LANES), np.float32)
    last = c.ctypes.data + 4 * (rows * vectors - 1) * LANES
    one = (1, 0, 0)
    _tile(rows, vectors, 1, ZERO)(
        a.ctypes.data, b.ctypes.data + 4 * LANES, last, *one, *one, *one, *one,
        -LANES, -vectors * LANES, -LANES,
    )  # fmt: skip
    expected = np.multiply.outer(a[:rows], b[: 2 * LANES].reshape(2, LANES)[::-1])[::-1, ::-1]
    np.testing.assert_array_equal(c, expected)


def test_a_sum_cut_in_two_has_the_same_bits() -> None:
    rows, vectors = 4, 4
    generator = np.random.default_rng(0)
    a, b = (generator.standard_normal(2 * MIDDLE, dtype=np.float32) for _ in range(2))
    whole, cut = (np.zeros((rows, vectors, LANES), np.float32) for _ in range(2))
    once, distances = (1, 0, 0) * 3, (LANES, vectors * LANES, LANES)

    def add(start: int, first: int, last: int, c: Array) -> None:
        a_at, b_at = a.ctypes.data + 4 * first, b.ctypes.data + 4 * first * LANES
        _tile(rows, vectors, 3, start)(a_at, b_at, c.ctypes.data, *once, last - first, 1, LANES, *distances)

    add(ZERO, 0, 37, whole)
    add(ZERO, 0, 20, cut)
    add(LOAD, 20, 37, cut)
    np.testing.assert_array_equal(whole, cut)


@pytest.mark.parametrize("adds", [0, 1])
@pytest.mark.parametrize("vectors", [1, 4])
def test_a_sum_of_tiles_is_written_or_added_as_a_whole(vectors: int, adds: int) -> None:
    rows, count = 3, 5
    tile = Tile(rows, vectors, a_row=1)

    @kernel(*[int64] * 7)
    def call(a, b, b_vector, c, count, ahead, adds):
        into = Sums(c, row=tile.vectors * LANES, vector=LANES)
        sum_tiles(tile, a, Vectors(b, b_vector), into, count, ahead, adds)

    generator = np.random.default_rng(0)
    a = generator.standard_normal((count, LANES), dtype=np.float32)
    b = generator.standard_normal((vectors, count, LANES), dtype=np.float32)
    c = generator.standard_normal((rows + 1, vectors, LANES), dtype=np.float32)
    products = np.einsum("tr,vtk->rvk", a[:, :rows].astype(np.float64), b.astype(np.float64))
    expected = c.astype(np.float64)
    expected[:rows] = adds * expected[:rows] + products
    call(a.ctypes.data, b.ctypes.data, count * LANES, c.ctypes.data, count, a.ctypes.data, adds)
    np.testing.assert_allclose(c, expected, rtol=0, atol=1e-5)  # a few roundings of sums below 10


def test_add_vectors_adds_what_it_should_and_no_more() -> None:
    @kernel(int64, int64, int64)
    def call(target, source, vectors):
        add_vectors(target, source, vectors)

    generator = np.random.default_rng(0)
    target, source = (generator.standard_normal(4 * LANES, dtype=np.float32) for _ in range(2))
    expected = target.copy()
    expected[: 3 * LANES] += source[: 3 * LANES]
    call(target.ctypes.data, source.ctypes.data, 3)
    np.testing.assert_array_equal(target, expected)
