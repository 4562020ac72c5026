"""Fully connected layers on tiles, in software, against the order of the contract in numpy."""

import numpy as np
import pytest
from numpy.typing import NDArray

from layers import layout
from layers.kernels import linear_tiles, threads
from layers.kernels.linear_tiles import Product
from layers.kernels.tile_unit import SOFTWARE
from tests.layers import bf16_model, harness

Array = NDArray[np.float32]
LANES, THREADS = 16, 2


@pytest.fixture(autouse=True)
def _workers_get_even_little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "INLINE_WORK", 0)


def _drawn(*shape: int, seed: int, scale: float = 1.0) -> Array:
    values = scale * np.random.default_rng(seed).standard_normal(shape)
    return bf16_model.rounded(values.astype(np.float32))


def _stored(plain: Array) -> Array:
    samples, features = plain.shape
    stored = np.full((samples, layout.blocks(features) * LANES), np.nan, np.float32)
    layout.to_blocked(plain, stored)
    return stored


def _weights(plain: Array) -> Array:
    parameter = layout.linear_weight(plain.shape, 1.0)
    blocked = np.full(parameter.blocked, np.nan, np.float32)
    parameter.pack(plain, blocked)
    return blocked


def _equal(found: Array, expected: Array) -> None:
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


ZERO = np.float32(0)
TINY = 2.0**-63  # products on both sides of the smallest normal number
SHAPES = [(3, 16, 16), (16, 70, 33), (21, 48, 80), (37, 100, 40)]
"""Samples, features and outputs."""


@pytest.mark.parametrize("depth", [1, 16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_has_the_bits_of_the_model(
    shape: tuple[int, int, int], depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_tiles, "DEPTH", depth)
    samples, features, outputs = shape
    x, weight, bias = (
        _drawn(samples, features, seed=1),
        _drawn(outputs, features, seed=2),
        _drawn(outputs, seed=3),
    )
    stored, y = _stored(x), _stored(np.zeros((samples, outputs), np.float32))
    y[:] = np.nan
    product = linear_tiles.forward_product(samples, stored.shape[1], y.shape[1])
    operands = stored, _weights(weight), _stored(bias[None])[0]
    with harness.working_memory(product.room(THREADS)) as memory:
        linear_tiles.forward(harness.workers(THREADS), SOFTWARE, *operands, y, memory)
    _equal(y[:, :outputs].copy(), bf16_model.product(bias, x, weight.T) + ZERO)


@pytest.mark.parametrize("scale", [1.0, TINY])
@pytest.mark.parametrize("leaf", [32, 64, 128])
@pytest.mark.parametrize("shape", [(3, 16, 128), (21, 48, 120), (37, 100, 97)], ids=str)
def test_backward_data_has_the_bits_of_the_model(
    shape: tuple[int, int, int], leaf: int, scale: float
) -> None:
    samples, features, outputs = shape
    dy = _drawn(samples, outputs, seed=1, scale=scale)
    weight = _drawn(outputs, features, seed=2, scale=scale)
    stored, dx = _stored(dy), np.full((samples, layout.blocks(features) * LANES), np.nan, np.float32)
    product, blocked = (
        linear_tiles.data_product(samples, dx.shape[1], stored.shape[1], leaf),
        _weights(weight),
    )
    with harness.working_memory(product.room(THREADS)) as memory:
        linear_tiles.backward_data(harness.workers(THREADS), SOFTWARE, stored, blocked, dx, memory, leaf)
    parts = [
        bf16_model.product(ZERO, dy[:, first : first + leaf], weight[first : first + leaf]) + ZERO
        for first in range(0, outputs, leaf)
    ]
    _equal(dx[:, :features].copy(), bf16_model.tree(parts))


@pytest.mark.parametrize("scale", [1.0, TINY])
@pytest.mark.parametrize(("leaves", "per_leaf"), [(1, 3), (1, 70), (4, 7), (8, 33), (2, 64)])
@pytest.mark.parametrize("shape", [(16, 16), (70, 33), (48, 80)], ids=str)
def test_backward_weights_has_the_bits_of_the_model(
    shape: tuple[int, int], leaves: int, per_leaf: int, scale: float
) -> None:
    features, outputs = shape
    x, dy = (_drawn(leaves * per_leaf, size, seed=size, scale=scale) for size in shape)
    dy_stored, x_stored = _stored(dy), _stored(x)
    product = linear_tiles.weights_product(*x_stored.shape, dy_stored.shape[1], leaves)
    parameter = layout.linear_weight((outputs, features), 1.0)
    gradient, bias = np.full(parameter.blocked, np.nan, np.float32), np.full_like(dy_stored[0], np.nan)
    with harness.working_memory(product.room(THREADS)) as memory:
        linear_tiles.backward_weights(
            harness.workers(THREADS), SOFTWARE, x_stored, dy_stored, memory, gradient, bias, leaves
        )
    parts = [
        bf16_model.product(ZERO, each_dy.T, each_x) + ZERO
        for each_x, each_dy in zip(np.split(x, leaves), np.split(dy, leaves), strict=True)
    ]
    _equal(parameter.unpack(gradient), bf16_model.tree(parts))
    sums = []
    for each_dy in np.split(dy, leaves):
        total = np.zeros(outputs, np.float32)
        for row in each_dy:
            total = total + row
        sums.append(total)
    _equal(bias[:outputs].copy(), bf16_model.tree(sums))


def test_tasks_of_a_product_are_enough_for_all_threads_where_there_are_tiles() -> None:
    for product in (Product(8, 64, 100, 100), Product(2, 8, 4, 4), Product(64, 256, 32, 4)):
        for count in (1, 2, 16):
            rows, columns = product.task(count)
            tasks = -(-product.rows // rows) * -(-product.columns // columns)
            assert tasks >= linear_tiles.TASKS_PER_THREAD * count or (rows <= 2 and columns <= 2)
