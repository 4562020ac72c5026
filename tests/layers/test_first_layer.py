"""First layers have the bits of the direct algorithm, whatever rows a task has and however y is stored."""

from dataclasses import replace

import pytest

from layers.conv2d import Conv2d
from layers.convolution.direct import Direct
from layers.convolution.first_layer import FirstLayer
from layers.kernels import conv_first, conv_first_forward, threads
from layers.kernels.caches import caches
from layers.kernels.epilogue import PLAIN, RECTIFIED, Epilogue
from layers.kernels.simd import LANES
from layers.layer import Shape
from tests.layers.algorithms import assert_same_bits, run_algorithm

SHAPES = [
    (Conv2d(4 * LANES, 3, padding=1), (3, 9, 70)),  # chunks of a row
    (Conv2d(3 * LANES, 7, stride=2, padding=3), (3, 13, 16)),
    (Conv2d(2 * LANES, (20, 5), stride=2), (1, 31, 21)),
    (Conv2d(LANES + 1, 5, stride=3, padding=4), (2, 8, 8)),  # whole windows outside
    (Conv2d(8 * LANES, (1, 2), stride=4), (4, 11, 10)),  # rows that nobody reads
    (Conv2d(2 * LANES, 1, padding=1), (4, 5, 5)),
]


@pytest.fixture(autouse=True)
def _workers_get_even_little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "INLINE_WORK", 0)


@pytest.mark.parametrize("epilogue", [PLAIN, RECTIFIED], ids=["plain", "relu"])
@pytest.mark.parametrize(("conv", "shape"), SHAPES, ids=str)
def test_all_passes_have_the_bits_of_the_direct_algorithm(
    conv: Conv2d, shape: Shape, epilogue: Epilogue
) -> None:
    direct = run_algorithm(Direct, conv, shape, epilogue=epilogue)
    assert_same_bits(run_algorithm(FirstLayer, conv, shape, epilogue=epilogue), direct)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("conv", "shape"), SHAPES, ids=str)
def test_short_bands_threads_and_streaming_change_no_bit(
    conv: Conv2d, shape: Shape, count: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_algorithm(FirstLayer, conv, shape)
    monkeypatch.setattr(conv_first_forward, "band_rows", lambda *_: rows)
    monkeypatch.setattr(conv_first_forward, "caches", lambda: replace(caches(), l3=0))
    assert_same_bits(run_algorithm(FirstLayer, conv, shape, threads=count), whole)


def test_tiles_of_the_weight_gradient_fit_the_registers() -> None:
    for k_blocks in (1, 2, 3, 4):
        for terms in range(1, 45):
            rows, tail, vectors = conv_first.tile_shape(k_blocks, terms)
            assert (terms - tail) % rows == 0
            assert k_blocks % vectors == 0
            assert rows * vectors <= conv_first.TILE_ROWS * conv_first.MOST_VECTORS
