"""Convolutions on tiles, in software, against sums of products in the order of the contract, in numpy."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from layers import layout
from layers.kernels import conv_direct, conv_tiles, threads
from layers.kernels.epilogue import PLAIN, RECTIFIED, RELU_POOL, Epilogue, pooled
from layers.kernels.tile_unit import SOFTWARE
from tests.layers import bf16_model, harness

Array = NDArray[np.float32]
LANES = 16


@pytest.fixture(autouse=True)
def _workers_get_even_little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "INLINE_WORK", 0)


@dataclass(frozen=True)
class Case:
    """A convolution of one or two images."""

    channels: int
    outputs: int
    image: tuple[int, int]
    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    padding: tuple[int, int] = (1, 1)
    dilation: int = 1
    samples: int = 1
    scale: float = 1.0

    @property
    def result(self) -> tuple[int, int]:
        """Rows and columns of y."""
        reaches = ((taps - 1) * self.dilation + 1 for taps in self.kernel)
        rows, columns = (
            (size + 2 * padding - reach) // self.stride + 1
            for size, padding, reach in zip(self.image, self.padding, reaches, strict=True)
        )
        return rows, columns

    def operands(self) -> tuple[Array, Array, Array, Array]:
        """Return plain x, weights, bias and dy; x, weights and dy are values of bf16."""
        generator = np.random.default_rng(5)

        def drawn(*shape: int) -> Array:
            values = self.scale * generator.standard_normal(shape)
            return bf16_model.rounded(values.astype(np.float32))

        x = drawn(self.samples, self.channels, *self.image)
        weights = drawn(self.outputs, self.channels, *self.kernel)
        dy = drawn(self.samples, self.outputs, *self.result)
        bias = self.scale**2 * generator.standard_normal(self.outputs)
        return x, weights, bias.astype(np.float32), dy


CASES = [
    Case(16, 16, (5, 7)),
    Case(48, 32, (6, 17), samples=2),  # an odd block of channels; tiles of 9 and 8 pixels
    Case(20, 40, (9, 5), (3, 1), padding=(1, 0)),
    Case(64, 16, (3, 4), (1, 1), padding=(0, 0)),
    Case(32, 48, (9, 11), stride=2),
    Case(32, 16, (8, 12), (5, 4), 3, (2, 1)),
    Case(16, 16, (9, 9), dilation=2, padding=(2, 2)),
    Case(16, 16, (9, 9), stride=2, dilation=2, padding=(2, 2)),  # columns of dx that nothing meets
    Case(48, 16, (4, 6), scale=2.0**-63),  # sums on both sides of the smallest normal number
    Case(16, 32, (10, 9), stride=2, dilation=3, padding=(3, 0)),
    Case(16, 16, (2, 3), padding=(3, 2)),  # rows of zeros only
    Case(16, 16, (7, 40), (2, 2), padding=(0, 1)),  # several tiles a row
]


def _blocks(count: int) -> list[slice]:
    return [slice(first, min(count, first + 32)) for first in range(0, count, 32)]


def _add(totals: Array, inside: NDArray[np.bool_], pixels: Array, weights: Array) -> None:
    """Add a block to the totals of some pixels, which are [N, H, W, channels]."""
    totals[:, inside] = np.stack(
        [bf16_model.product(*each, weights) for each in zip(totals[:, inside], pixels, strict=True)]
    )


def _at(image: Array, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Array:
    """Return pixels [N, count, channels] of an image [N, channels, H, W], zeros beside its rows."""
    beside = (columns < 0) | (columns >= image.shape[3])
    pixels = image[:, :, rows, np.where(beside, 0, columns)] * ~beside
    return pixels.astype(np.float32).transpose(0, 2, 1)


def _forward(case: Case) -> Array:
    """Return y before it is rounded."""
    x, weights, bias, _ = case.operands()
    y = np.tile(bias, (case.samples, *case.result, 1))
    i, j = np.indices(case.result)
    for block in _blocks(case.channels):
        for u, v in np.ndindex(*case.kernel):
            h, w = (
                place * case.stride + tap * case.dilation - padding
                for place, tap, padding in zip((i, j), (u, v), case.padding, strict=True)
            )
            inside = (h >= 0) & (h < case.image[0])
            pixels = _at(x[:, block], h[inside], w[inside])
            _add(y, inside, pixels, weights[:, block, u, v].T)
    return y.transpose(0, 3, 1, 2) + np.float32(0)


def _backward_data(case: Case) -> Array:
    _, weights, _, dy = case.operands()
    dx = np.zeros((case.samples, *case.image, case.channels), np.float32)
    h, w = np.indices(case.image)
    for block in _blocks(case.outputs):
        for u, v in reversed(list(np.ndindex(*case.kernel))):  # so that rows and columns of dy ascend
            (i, rest), (j, other) = (
                np.divmod(place + padding - tap * case.dilation, case.stride)
                for place, tap, padding in zip((h, w), (u, v), case.padding, strict=True)
            )
            inside = (rest == 0) & (other == 0) & (i >= 0) & (i < case.result[0])
            _add(dx, inside, _at(dy[:, block], i[inside], j[inside]), weights[block, :, u, v])
    return dx.transpose(0, 3, 1, 2) + np.float32(0)


def stored_image(plain: Array) -> Array:
    """Return a view of the stored image, NaN beside it."""
    samples, channels, height, width = plain.shape
    shape = (samples, layout.blocks(channels), height, width + 3, LANES)
    stored = np.full(shape, np.nan, np.float32)
    view = stored[:, :, :, 1 : 1 + width]
    layout.to_blocked(plain, view)
    return view


def _weights(plain: Array) -> Array:
    parameter = layout.conv_weight(plain.shape, 1.0)
    blocked = np.full(parameter.blocked, np.nan, np.float32)
    parameter.pack(plain, blocked)
    return blocked


def _room(case: Case, *, back: bool, threads: int) -> conv_tiles.Room:
    reach = (case.kernel[1] - 1) * case.dilation + 1
    width, columns = case.image[1], case.result[1]
    blocks = layout.blocks(case.channels), layout.blocks(case.outputs)
    image = case.image
    if back:
        beside = conv_direct.gradient_halo(width, columns, reach, case.stride, case.padding[1])
        blocks, image, columns = blocks[::-1], case.result, width
    else:
        beside = conv_direct.halo(width, columns, reach, case.stride, case.padding[1])
    stored = image[0], sum(beside) + image[1]
    return conv_tiles.room(case.samples, blocks, stored, case.kernel, columns, case.stride, threads)


def _computed_forward(case: Case, epilogue: Epilogue, shape: tuple[int, int], threads: int = 2) -> Array:
    x, weights, bias, _ = case.operands()
    padded = np.zeros(layout.blocks(case.outputs) * LANES, np.float32)
    padded[: case.outputs] = bias
    y = np.full((case.samples, layout.blocks(case.outputs), *shape, LANES), np.nan, np.float32)
    with harness.working_memory(_room(case, back=False, threads=threads)) as memory:
        conv_tiles.forward(
            harness.workers(threads), SOFTWARE, stored_image(x), _weights(weights), padded, y, memory,
            case.stride, case.padding, dilation=case.dilation, epilogue=epilogue,
        )  # fmt: skip
    return y


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_has_the_bits_of_the_model(case: Case) -> None:
    expected = bf16_model.rounded(_forward(case))
    for epilogue, plain in ((PLAIN, expected), (RECTIFIED, np.maximum(expected, 0))):
        y = _computed_forward(case, epilogue, case.result)
        found = layout.from_blocked(y, (case.outputs, *case.result))
        np.testing.assert_array_equal(found.view(np.uint32), plain.view(np.uint32))


@pytest.mark.parametrize("case", [CASES[1], CASES[4]], ids=str)
def test_forward_pools_what_it_has_rectified(case: Case) -> None:
    rows, columns = (size // 2 for size in case.result)
    argmax = np.full((case.samples, layout.blocks(case.outputs), rows, columns, LANES), 7, np.uint8)
    y = _computed_forward(case, pooled(argmax), (rows, columns))
    found = layout.from_blocked(y, (case.outputs, rows, columns))
    whole = np.maximum(bf16_model.rounded(_forward(case)), 0)[:, :, : 2 * rows, : 2 * columns]
    windows = whole.reshape(*whole.shape[:2], rows, 2, columns, 2).transpose(0, 1, 2, 4, 3, 5)
    windows = windows.reshape(*windows.shape[:4], 4)
    np.testing.assert_array_equal(found, windows.max(axis=-1))
    taps = np.where(windows.max(axis=-1) > 0, windows.argmax(axis=-1), 255)
    np.testing.assert_array_equal(layout.from_blocked(argmax, (case.outputs, rows, columns)), taps)
    assert pooled(argmax).kind == RELU_POOL


@pytest.mark.parametrize("case", CASES, ids=str)
def test_backward_data_has_the_bits_of_the_model(case: Case) -> None:
    _, weights, _, dy = case.operands()
    transposed = _weights(np.ascontiguousarray(weights.transpose(1, 0, 2, 3)))
    dx = np.full((case.samples, layout.blocks(case.channels), *case.image, LANES), np.nan, np.float32)
    with harness.working_memory(_room(case, back=True, threads=2)) as memory:
        conv_tiles.backward_data(
            harness.workers(2), SOFTWARE, stored_image(dy), transposed, dx, memory,
            case.stride, case.padding, case.dilation,
        )  # fmt: skip
    found = layout.from_blocked(dx, (case.channels, *case.image))
    np.testing.assert_array_equal(found.view(np.uint32), _backward_data(case).view(np.uint32))


def test_neither_bands_nor_threads_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[1]
    usual = _computed_forward(case, RECTIFIED, case.result)
    monkeypatch.setattr(conv_tiles, "BAND_TILES", 5)
    np.testing.assert_array_equal(_computed_forward(case, RECTIFIED, case.result, threads=3), usual)
