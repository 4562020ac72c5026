"""Winograd convolution: its transforms against exact matrices, its error, and when it is chosen."""

from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pytest
from numba import int64

from layers.arithmetic import ceil_div
from layers.conv2d import Conv2d
from layers.kernels import conv_winograd, conv_winograd_weights
from layers.kernels.conv_algorithm import backward_weights_is_winograd, forward_is_winograd
from layers.kernels.jit import kernel
from layers.kernels.register_tile import TILE_ROWS
from layers.kernels.simd import LANES
from layers.kernels.winograd_sums import CHUNK_TILES, block_tiles
from layers.kernels.winograd_transforms import (
    INPUT,
    OUTPUT,
    OUTPUT_GRADIENT,
    POINTS,
    WEIGHT,
    WEIGHT_GRADIENT,
    transform,
    transform_weight_gradient,
)
from layers.reference import conv2d as reference
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD
from tests.layers.harness import problem, run

FINITE = [Fraction(point) for point in (0, 1, -1, 2, -2)]
SCALES = [Fraction(1, 4), Fraction(-1, 6), Fraction(-1, 6), Fraction(1, 24), Fraction(1, 24)]


def matrices(outputs: int) -> dict[int, np.ndarray]:
    """Return the five matrices, written down from the points (Lavin and Gray, arXiv:1509.09308)."""
    taps = POINTS + 1 - outputs
    g = [[scale * point**power for power in range(taps)] for point, scale in zip(FINITE, SCALES, strict=True)]
    g.append([Fraction(power == taps - 1) for power in range(taps)])
    a = [[point**power for power in range(outputs)] for point in FINITE]
    a.append([Fraction(power == outputs - 1) for power in range(outputs)])
    b_t = [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
    g, a, b_t = (np.array(matrix, np.float64) for matrix in (g, a, b_t))
    return {INPUT: b_t, OUTPUT_GRADIENT: a, WEIGHT: g, OUTPUT: a.T, WEIGHT_GRADIENT: g.T}


@lru_cache
def _transform(kind, outputs):
    @kernel(int64, int64, int64, int64, int64, int64)
    def call(source, source_row, source_column, target, target_row, target_column):
        transform(kind, outputs, source, source_row, source_column, target, target_row, target_column)

    return call


@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize("kind", [INPUT, OUTPUT_GRADIENT, WEIGHT, OUTPUT, WEIGHT_GRADIENT])
def test_transforms_are_the_matrices_of_the_literature(kind, outputs):
    matrix = matrices(outputs)[kind]
    after, before = matrix.shape
    source = np.random.default_rng(kind).standard_normal((before, before, LANES)).astype(np.float32)
    target = np.zeros((after, after, LANES), np.float32)
    row, column = before * LANES, LANES
    _transform(kind, outputs)(source.ctypes.data, row, column, target.ctypes.data, after * LANES, LANES)
    expected = np.einsum("ai,bj,ijl->abl", matrix, matrix, source.astype(np.float64))
    terms = np.einsum("ai,bj,ijl->abl", abs(matrix), abs(matrix), abs(source.astype(np.float64)))
    roundings = 12  # on the way of a term through both passes
    assert (abs(target - expected) <= roundings * 2.0**-24 * terms).all()


@lru_cache
def _weight_gradient(outputs):
    @kernel(int64, int64, int64, int64, int64)
    def call(source, position, target, tap, adds):
        transform_weight_gradient(outputs, source, position, target, tap, adds)

    return call


@pytest.mark.parametrize("outputs", [2, 4])
def test_a_weight_gradient_is_written_or_added(outputs):
    taps, position, tap = POINTS + 1 - outputs, 3 * LANES, 2 * LANES
    rng = np.random.default_rng(outputs)
    source = rng.standard_normal((POINTS, POINTS, position), dtype=np.float32)
    before = rng.standard_normal((taps, taps, tap), dtype=np.float32)
    plain = np.zeros((taps, taps, LANES), np.float32)
    _transform(WEIGHT_GRADIENT, outputs)(
        source.ctypes.data, POINTS * position, position, plain.ctypes.data, taps * LANES, LANES
    )
    for adds, want in ((0, plain), (1, before[..., :LANES] + plain)):
        target = before.copy()
        _weight_gradient(outputs)(source.ctypes.data, position, target.ctypes.data, tap, adds)
        assert (target[..., :LANES] == want).all()
        assert (target[..., LANES:] == before[..., LANES:]).all()


@pytest.mark.parametrize("vectors", [1, 2, 4])
def test_register_tiles_cover_a_block_of_channels(vectors):
    tiles = block_tiles(vectors)
    shorts = tiles.number - tiles.longs
    assert tiles.longs > 0
    assert tiles.longs * tiles.long.rows + shorts * tiles.short.rows == LANES


@pytest.mark.parametrize("outputs", [2, 4])
def test_the_matrices_compute_a_correlation(outputs):
    taps, exact = POINTS + 1 - outputs, matrices(outputs)
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal(POINTS), rng.standard_normal(taps)
    got = exact[OUTPUT] @ ((exact[WEIGHT] @ g) * (exact[INPUT] @ d))
    np.testing.assert_allclose(got, [d[i : i + taps] @ g for i in range(outputs)], rtol=0, atol=1e-12)


def relative(got, want):
    return np.linalg.norm(got - want) / np.linalg.norm(want)


@pytest.mark.parametrize(
    ("channels", "layer", "side", "limit"),
    [
        (512, Conv2d(512, 3, padding=1), 14, 6e-6),
        (64, Conv2d(128, 3, padding=1), 28, 6e-6),
        (96, Conv2d(128, 5), 14, 2e-5),
        (33, Conv2d(130, 3, padding=2), 11, 2e-5),
    ],
)
def test_the_error_against_float64_stays_within_its_bound(channels, layer, side, limit):
    shape = (channels, side, side)
    assert layer.is_winograd(FORWARD, 2, shape)
    assert layer.is_winograd(BACKWARD_DATA, 2, shape)
    assert layer.is_winograd(BACKWARD_WEIGHTS, 2, shape)
    given = problem(layer, (shape,), 2)
    result = run(layer, given)
    assert relative(result.y[0].plain(), *reference.forward(layer, given)) < limit
    assert relative(result.dx[0].plain(), *reference.backward_data(layer, given)) < limit
    want = reference.backward_weights(layer, given)["weight"]
    assert relative(result.gradients["weight"], want) < limit


@pytest.mark.parametrize("channels", [48, 272])  # all stages by one worker, and stage by stage
@pytest.mark.parametrize(("rows", "blocks", "threads"), [(TILE_ROWS // 2, 1, 1), (TILE_ROWS - 1, 2, 2)])
def test_the_cut_of_tiles_changes_no_bit(monkeypatch, channels, rows, blocks, threads):
    layer, shape = Conv2d(channels, 3, padding=1), (channels, 15, 14)
    assert layer.is_winograd(FORWARD, 3, shape)
    given = problem(layer, (shape,), 3)
    whole = run(layer, given)
    monkeypatch.setattr(conv_winograd, "_cut", lambda *_: conv_winograd._Cut(rows, blocks))
    cut = run(layer, given, threads=threads)
    assert (cut.y[0].plain() == whole.y[0].plain()).all()
    assert (cut.dx[0].plain() == whole.dx[0].plain()).all()


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("total", [1, 28, 32, 98, 128, 512, 1568])
def test_groups_of_tiles_fit_their_memory_and_keep_all_workers_busy(total, workers):
    most, _ = conv_winograd._at_once(total, LANES, LANES)
    rows, blocks = conv_winograd._cut(total, most, workers)
    assert rows * blocks <= most
    full, rest = divmod(ceil_div(total, rows), blocks)
    each, more = divmod(full, workers)
    last = rows * (each * blocks + (blocks if more else rest))  # tiles of the worker that is done last
    assert last <= max(1.3 * total / workers, TILE_ROWS)


@pytest.mark.parametrize(
    ("channels", "layer"),
    [(80, Conv2d(96, 3, padding=1)), (40, Conv2d(192, 3, padding=1)), (80, Conv2d(112, 5, padding=2))],
)
@pytest.mark.parametrize(("blocks_at_once", "spans", "threads"), [(2, 1, 1), (4, 2, 2), (3, 100, 3)])
def test_the_cut_of_the_weight_gradient_changes_no_bit(
    monkeypatch, channels, layer, blocks_at_once, spans, threads
):
    side = 20 if layer.kernel == 5 else 38
    shape = (channels, side, side - 1)
    assert layer.is_winograd(BACKWARD_WEIGHTS, 2, shape)
    given = problem(layer, (shape,), 4)
    whole = run(layer, given, leaves=2).gradients["weight"]
    floats = POINTS * POINTS * 2 * blocks_at_once * LANES * CHUNK_TILES * spans
    monkeypatch.setattr(conv_winograd_weights, "RANGE", blocks_at_once)
    monkeypatch.setattr(conv_winograd_weights, "SPAN_FLOATS", floats)
    cut = run(layer, given, leaves=2, threads=threads).gradients["weight"]
    assert (cut == whole).all()


def test_direct_can_be_asked_for():
    layer = Conv2d(64, 3, padding=1)
    shape = (64, 28, 28)
    assert layer.is_winograd(FORWARD, 2, shape)
    assert not replace(layer, algorithm="direct").is_winograd(FORWARD, 2, shape)
    with pytest.raises(ValueError, match="algorithm"):
        Conv2d(64, 3, algorithm="fastest")


def test_the_choice_follows_from_shape_and_leaf():
    assert forward_is_winograd(64, 128, (3, 3), 1, 112, 112)
    assert not forward_is_winograd(64, 128, (3, 3), 2, 56, 56)
    assert not forward_is_winograd(3, 64, (3, 3), 1, 224, 224)
    assert not forward_is_winograd(64, 128, (1, 1), 1, 56, 56)
    assert forward_is_winograd(96, 256, (5, 5), 1, 24, 24)
    assert backward_weights_is_winograd(512, 512, (3, 3), 1, 14, 14, 2)
    assert not backward_weights_is_winograd(512, 512, (3, 3), 1, 2, 2, 1)
