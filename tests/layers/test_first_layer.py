"""First layers have the bits of the direct algorithm, whatever rows a task has and however x and y lie."""

from dataclasses import replace

import pytest

from layers.conv2d import Conv2d
from layers.convolution.direct import Direct
from layers.convolution.first_layer import FirstLayer
from layers.kernels import conv_first_forward, threads
from layers.kernels.caches import caches
from layers.kernels.epilogue import PLAIN, RECTIFIED, Epilogue
from layers.kernels.gradient_tile import cut, most_rows
from layers.kernels.register_tile import TILE_ROWS
from layers.kernels.simd import LANES, REGISTERS_EACH
from layers.kernels.target import TARGET
from layers.layer import Shape
from layers.work import BACKWARD_WEIGHTS, FORWARD
from tests.layers.algorithms import assert_same_bits, run_algorithm

SHAPES = [
    (Conv2d(4 * LANES, 3, padding=1), (3, 9, 134)),  # chunks of a row
    (Conv2d(LANES, 3, padding=1), (1, 9, 257)),  # tiles of several kernel rows
    (Conv2d(2 * LANES, 5, padding=2), (1, 7, 19)),  # and one of what is left
    (Conv2d(2 * LANES, 5, padding=2), (1, 2, 3)),  # no row with a whole kernel
    (Conv2d(3 * LANES, 7, stride=2, padding=3), (3, 13, 16)),
    (Conv2d(2 * LANES, (20, 5), stride=2), (1, 31, 21)),
    (Conv2d(LANES + 1, 5, stride=3, padding=4), (2, 8, 8)),  # whole windows outside
    (Conv2d(8 * LANES, (1, 2), stride=4), (4, 11, 10)),  # rows that nobody reads
    (Conv2d(2 * LANES, 1, padding=1), (4, 5, 5)),
]


@pytest.fixture(autouse=True)
def _workers_get_even_little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "INLINE_WORK", 0)


@pytest.mark.parametrize("dense", [False, True], ids=["blocks", "dense"])
@pytest.mark.parametrize("epilogue", [PLAIN, RECTIFIED], ids=["plain", "relu"])
@pytest.mark.parametrize(("conv", "shape"), SHAPES, ids=str)
def test_all_passes_have_the_bits_of_the_direct_algorithm(
    conv: Conv2d, shape: Shape, epilogue: Epilogue, *, dense: bool
) -> None:
    direct = run_algorithm(Direct, conv, shape, epilogue=epilogue)
    lanes = conv.input_lanes(shape) if dense else LANES
    assert lanes == (shape[0] if dense else LANES)
    assert_same_bits(run_algorithm(FirstLayer, conv, shape, epilogue=epilogue, lanes=lanes), direct)


@pytest.mark.parametrize("streamed", [False, True], ids=["fetched", "streamed"])
@pytest.mark.parametrize(("count", "tasks"), [(1, 1), (2, 1 << 10), (3, 1)])
@pytest.mark.parametrize(("conv", "shape"), SHAPES, ids=str)
def test_bands_threads_and_the_way_to_memory_change_no_bit(
    conv: Conv2d, shape: Shape, count: int, tasks: int, monkeypatch: pytest.MonkeyPatch, *, streamed: bool
) -> None:
    whole = run_algorithm(FirstLayer, conv, shape)
    monkeypatch.setattr(conv_first_forward, "TASKS_PER_THREAD", tasks)
    monkeypatch.setattr(conv_first_forward, "STREAMED_STEPS", 1 << 10 if streamed else 0)
    monkeypatch.setattr(conv_first_forward, "caches", lambda: replace(caches(), l3=0))
    assert_same_bits(run_algorithm(FirstLayer, conv, shape, threads=count, lanes=shape[0]), whole)


def test_what_lies_beside_the_rows_of_a_dense_input_is_not_read() -> None:
    conv, shape = Conv2d(2 * LANES, 3), (3, 6, 20)  # wants no halo
    direct = run_algorithm(Direct, conv, shape)
    assert_same_bits(run_algorithm(FirstLayer, conv, shape, around=(5, 3), lanes=3), direct)


@pytest.mark.parametrize("channels", [1, 3, 4, LANES, LANES + 1])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("direction", [FORWARD, BACKWARD_WEIGHTS])
def test_only_what_a_first_layer_reads_is_stored_without_padded_channels(
    channels: int, kernel: int, dilation: int, padding: int, direction: str
) -> None:
    conv, shape = Conv2d(8 * LANES, kernel, padding=padding, dilation=dilation), (channels, 12, 12)
    reads_dense = isinstance(conv.algorithm_of(direction, 4, shape), FirstLayer)
    assert conv.input_lanes(shape) == (channels if reads_dense else LANES)


@pytest.mark.parametrize("kernel_rows", [1, 2, 3, 7, 20])
def test_tiles_of_the_weight_gradient_cover_the_kernel(kernel_rows: int) -> None:
    for k_blocks in (1, 2, 3, 4):
        for terms in range(1, 45):
            found = cut(k_blocks, kernel_rows, terms)
            assert k_blocks % found.vectors == 0
            assert terms % found.terms == found.tail
            assert 1 <= found.kernel_rows <= kernel_rows
            rows = max(found.terms, found.kernel_rows * terms if found.kernel_rows > 1 else 0)
            assert rows + found.has_bias <= most_rows(found.vectors)
            assert found.tiles(kernel_rows, terms) * most_rows(found.vectors) >= kernel_rows * terms


@pytest.mark.parametrize("vectors", [1, 2])
def test_the_largest_tile_of_the_weight_gradient_fits_the_registers(vectors: int) -> None:
    smallest = vectors == 1 and most_rows(1) == TILE_ROWS  # of SSE2 it does not fit as a whole
    assert smallest or (most_rows(vectors) + 1) * vectors * REGISTERS_EACH < TARGET.registers
