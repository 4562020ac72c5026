"""The matrix kernels behind the fully connected layer: products, long sums, leaves and machine code."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from layers.arithmetic import round_up
from layers.kernels import fully_connected, gemm, packing, threads
from layers.kernels.matrix_tiles import TURN
from layers.kernels.register_tile import TILE_ROWS, at_once
from layers.kernels.simd import LANES, REGISTERS_EACH, WIDTH
from layers.kernels.target import AVX2, AVX512, TARGET
from layers.kernels.tiling import split_rows
from layers.linear import Linear
from tests.layers import harness

Array = NDArray[np.float32]


@pytest.fixture(autouse=True)
def _workers_get_even_little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "INLINE_WORK", 0)


def _draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


SHAPES = [(1, 1, 1), (3, 17, 31), (14, 32, 512), (15, 33, 513), (29, 64, 1100), (240, 31, 5), (64, 1, 7)]


def _product(a: Array, b: Array, bias: Array, *, transpose_a: bool, transpose_b: bool) -> Array:
    """Return bias + a b, from operands that are packed as they lie in memory or as their transposes do."""
    workers, width = harness.workers(2), 2 * LANES
    (m, k), n = a.shape, b.shape[1]
    padded = round_up(n, width)
    rows, _ = split_rows(m, TILE_ROWS)
    tiles = np.full(packing.tiles_floats(m, k), np.nan, np.float32)
    panels = np.full(padded * k, np.nan, np.float32)
    if transpose_a:
        packing.pack_slices(workers, np.ascontiguousarray(a.T), tiles, rows, packing.pitch(rows))
    else:
        packing.pack_columns(workers, a, tiles, rows)
    if transpose_b:
        packing.pack_columns(workers, np.ascontiguousarray(b.T), panels, width)
    else:
        packing.pack_slices(workers, b, panels, width, width)
    c, start = np.full((m, padded), np.nan, np.float32), np.zeros(padded, np.float32)
    start[:n] = bias
    gemm.multiply(workers, tiles, rows, panels.reshape(-1, k, width), start, c)
    return c[:, :n]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_a_product_equals_numpy(shape: tuple[int, int, int], transpose_a: bool, transpose_b: bool) -> None:
    m, n, k = shape
    a, b, bias = _draw(m, k), _draw(k, n, seed=1), _draw(n, seed=2)
    expected = a.astype(np.float64) @ b + bias
    found = _product(a, b, bias, transpose_a=transpose_a, transpose_b=transpose_b)
    # Sums of up to 1,100 products have errors of about sqrt(1100) * 6e-8 of their size.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


def test_a_product_has_the_same_bits_in_all_four_forms() -> None:
    a, b, bias = _draw(45, 700), _draw(700, 50, seed=1), _draw(50, seed=2)
    forms = [(first, second) for first in (False, True) for second in (False, True)]
    results = [_product(a, b, bias, transpose_a=first, transpose_b=second) for first, second in forms]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@pytest.mark.parametrize("samples", [1, LANES, 5 * LANES, 20 * LANES])
def test_no_blocking_changes_a_bit(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Linear(10 * LANES)
    given = harness.problem(layer, ((33 * LANES,),), samples)
    usual = harness.run(layer, given, threads=2)
    monkeypatch.setattr(fully_connected, "DATA_TILES", 4)
    monkeypatch.setattr(fully_connected, "DATA_PANELS", 3)
    monkeypatch.setattr(fully_connected, "WEIGHT_BLOCK", 1)
    monkeypatch.setattr(fully_connected, "STREAM_BYTES", 0)
    monkeypatch.setattr(gemm, "DEPTH", 7)
    monkeypatch.setattr(gemm, "BLOCK", 2 * 7 * LANES)
    other = harness.run(layer, given, threads=3)
    np.testing.assert_array_equal(usual.y[0].plain(), other.y[0].plain())
    np.testing.assert_array_equal(usual.dx[0].plain(), other.dx[0].plain())
    for name, gradient in usual.gradients.items():
        np.testing.assert_array_equal(gradient, other.gradients[name])


@pytest.mark.parametrize("outputs", [1, 10, 70, 8 * 2 * LANES, 500, 1000, 2048, 4095, 4096, 9304])
def test_feature_leaves_are_a_power_of_two_and_none_is_empty(outputs: int) -> None:
    leaf = fully_connected.outputs_per_leaf(outputs)
    leaves = -(-outputs // leaf)
    assert leaf % (2 * LANES) == 0
    assert leaves & (leaves - 1) == 0
    assert leaves <= fully_connected.FEATURE_LEAVES


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
@pytest.mark.parametrize("outputs", [8 * 2 * LANES, 17 * LANES - 5, 1000])
def test_shards_have_the_bits_of_the_whole_layer(outputs: int, parts: int) -> None:
    layer = Linear(outputs)
    if layer.feature_leaves < parts:
        pytest.skip(f"{layer.feature_leaves} feature leaves")
    given = harness.problem(layer, ((50,),), 6)
    whole = harness.run(layer, given, leaves=2)
    shards, start, partial = layer.shard(parts), 0, []
    for shard in shards:
        rows = slice(start, start + shard.out_features)
        mine = replace(
            given,
            parameters={name: value[rows] for name, value in given.parameters.items()},
            dys=(given.dys[0][:, rows],),
        )
        made = harness.run(shard, mine, leaves=2)
        np.testing.assert_array_equal(made.y[0].plain(), whole.y[0].plain()[:, rows])
        for name, gradient in made.gradients.items():
            np.testing.assert_array_equal(gradient, whole.gradients[name][rows])
        partial.append(made.dx[0].plain())
        start = rows.stop
    assert len(shards) == parts
    assert start == outputs
    while len(partial) > 1:
        partial = [left + right for left, right in zip(partial[::2], partial[1::2], strict=True)]
    np.testing.assert_array_equal(partial[0], whole.dx[0].plain())


def test_a_layer_refuses_more_parts_than_it_has_feature_leaves() -> None:
    with pytest.raises(ValueError, match=r"out_features=10 has 1 feature leaves, which 2 parts cannot"):
        Linear(10).shard(2)
    with pytest.raises(ValueError, match=r"which 3 parts cannot share"):
        Linear(1000).shard(3)


@pytest.mark.parametrize("per_leaf", [9, 32, 33])
@pytest.mark.parametrize("features", [64, 96, 1024, 4096])
def test_what_is_packed_fits_its_memory(
    features: int, per_leaf: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, sizes = Linear(40), []
    pack = packing.pack_slices

    def watched(workers: threads.Threads, x: Array, packed: Array, width: int, pitch: int) -> None:
        sizes.append((packed.size, -(-x.shape[1] // width) * len(x) * pitch))
        pack(workers, x, packed, width, pitch)

    monkeypatch.setattr(packing, "pack_slices", watched)
    harness.run(layer, harness.problem(layer, ((features,),), 2 * per_leaf), leaves=2)
    assert len(sizes) == 2  # x and dy
    assert all(size >= needed for size, needed in sizes)


@pytest.mark.parametrize(
    "per_leaf",
    [
        1,
        *(
            length + more
            for length in (fully_connected.SHORT_LEAF, fully_connected.MIDDLE_LEAF)
            for more in (0, 1)
        ),
    ],
)
@pytest.mark.parametrize("leaves", [1, 2, 4, 16])
def test_leaves_of_all_sizes_are_added_as_a_tree(leaves: int, per_leaf: int) -> None:
    layer = Linear(40)
    given = harness.problem(layer, ((50,),), leaves * per_leaf)
    computed = harness.run(layer, given, leaves=leaves).gradients
    partial = [
        harness.run(layer, given.part(i * per_leaf, (i + 1) * per_leaf)).gradients for i in range(leaves)
    ]
    while len(partial) > 1:
        pairs = zip(partial[::2], partial[1::2], strict=True)
        partial = [{name: left[name] + right[name] for name in left} for left, right in pairs]
    for name, gradient in computed.items():
        np.testing.assert_array_equal(gradient, partial[0][name])


def _hot_loops(kernel: Any) -> list[list[str]]:
    """Return the innermost loops of a kernel that hold multiply-adds of whole registers."""
    lines, labels, loops = harness.assembly(kernel).splitlines(), {}, []
    for at, line in enumerate(lines):
        if label := re.match(r"(\.L\w+):", line):
            labels[label[1]] = at
        jump = re.match(r"\s+j\w+\s+(\.L\w+)", line)
        if jump and jump[1] in labels:
            body = lines[labels[jump[1]] : at]
            if not any(re.match(r"\.L\w+:", inner) for inner in body[1:]):
                loops.append(body)
    return [loop for loop in loops if any("vfmadd" in line and REGISTER[WIDTH] in line for line in loop)]


REGISTER = {16: "%zmm", 8: "%ymm"}


@pytest.mark.skipif(TARGET.simd not in (AVX512, AVX2), reason="reads x86 assembly")
@pytest.mark.parametrize(
    ("factory", "sizes"),
    [
        (gemm._multiply, (TILE_ROWS, 0, 2)),
        (fully_connected._backward_data, (TILE_ROWS, 0, 2, 2 * LANES)),
        (fully_connected._backward_weights, (TILE_ROWS, 0, 2, 1, 0)),
        (fully_connected._backward_weights, (fully_connected.SHORT_ROWS, 0, 2, 4, 1)),
    ],
    ids=["multiply", "backward_data", "backward_weights", "short leaves"],
)
def test_hot_loops_keep_their_sums_in_registers(factory: Callable[..., Any], sizes: tuple[int, ...]) -> None:
    loops = _hot_loops(factory(*sizes))
    rows, _, vectors = sizes[:3]
    registers = rows * at_once(rows, vectors) * REGISTERS_EACH
    assert max(sum("vfmadd" in line for line in loop) for loop in loops) >= TURN * registers
    for loop in loops:
        assert not [line for line in loop if "(%rsp" in line and REGISTER[WIDTH] in line]


@pytest.mark.parametrize("leaf", [-32, 16, 33])
def test_feature_leaves_are_whole_groups_of_outputs(leaf: int) -> None:
    with pytest.raises(ValueError, match=r"leaf must be a multiple of 32, or 0"):
        Linear(64, leaf=leaf)
