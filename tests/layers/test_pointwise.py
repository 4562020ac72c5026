"""Convolutions of 1x1 have the bits of the direct algorithm, wherever their pixels lie and blocks are cut."""

import pytest

from layers.conv2d import Conv2d
from layers.convolution.direct import Direct
from layers.convolution.pointwise import Pointwise
from layers.kernels import conv_pointwise, conv_pointwise_weights, threads
from layers.kernels.epilogue import PLAIN, RECTIFIED, Epilogue
from layers.kernels.register_tile import TILE_ROWS
from layers.kernels.simd import LANES
from layers.layer import NO_HALO, Halo, Shape
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD, PASSES
from tests.layers.algorithms import assert_same_bits, run_algorithm
from tests.layers.harness import GUARD

SHAPES = [
    (Conv2d(4 * LANES, 1), (2 * LANES, 7, 7)),  # tiles that the image cuts
    (Conv2d(3 * LANES + 1, 1), (3 * LANES - 1, 5, 9)),  # one vector, padded channels
    (Conv2d(6 * LANES, 1), (5, 1, 3)),
    (Conv2d(18 * LANES, 1), (17 * LANES, 3, 2)),  # several blocks of weights
    (Conv2d(2 * LANES, 1, stride=2), (2 * LANES, 9, 8)),
    (Conv2d(10 * LANES, 1, stride=3), (LANES, 5, 7)),
]


@pytest.fixture(autouse=True)
def _workers_get_even_little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "INLINE_WORK", 0)


@pytest.mark.parametrize("halo", [NO_HALO, GUARD], ids=["in place", "gathered"])
@pytest.mark.parametrize("epilogue", [PLAIN, RECTIFIED], ids=["plain", "relu"])
@pytest.mark.parametrize(("conv", "shape"), SHAPES, ids=str)
def test_all_passes_have_the_bits_of_the_direct_algorithm(
    conv: Conv2d, shape: Shape, halo: Halo, epilogue: Epilogue
) -> None:
    direct = run_algorithm(Direct, conv, shape, around=halo, epilogue=epilogue)
    assert_same_bits(run_algorithm(Pointwise, conv, shape, around=halo, epilogue=epilogue), direct)


@pytest.mark.parametrize("halo", [NO_HALO, GUARD], ids=["in place", "gathered"])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("conv", "shape"), SHAPES, ids=str)
def test_small_blocks_and_threads_change_no_bit(
    conv: Conv2d, shape: Shape, halo: Halo, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_algorithm(Pointwise, conv, shape, around=halo)
    monkeypatch.setattr(conv_pointwise, "_most_tiles", lambda _channels: 2)
    monkeypatch.setattr(conv_pointwise_weights, "chunk_pixels", lambda _outputs, _inputs: 4)
    monkeypatch.setattr(conv_pointwise_weights, "BLOCK", 2 * LANES)
    assert_same_bits(run_algorithm(Pointwise, conv, shape, around=halo, threads=count), whole)


@pytest.mark.parametrize("halo", [NO_HALO, GUARD], ids=["in place", "gathered"])
@pytest.mark.parametrize("epilogue", [PLAIN, RECTIFIED], ids=["plain", "relu"])
@pytest.mark.parametrize("span", [1, 2, 5])
@pytest.mark.parametrize(("conv", "shape"), SHAPES, ids=str)
def test_sums_that_wait_for_other_channels_have_the_same_bits(
    conv: Conv2d, shape: Shape, halo: Halo, epilogue: Epilogue, span: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_algorithm(Pointwise, conv, shape, around=halo, epilogue=epilogue)
    monkeypatch.setattr(conv_pointwise, "span_of_blocks", lambda blocks: min(blocks, span))
    assert_same_bits(run_algorithm(Pointwise, conv, shape, around=halo, epilogue=epilogue), whole)


def test_weights_are_walked_over_for_enough_pixels() -> None:
    assert conv_pointwise.span_of_blocks(1) == 1
    for blocks in (64, 128, 1000):
        span = conv_pointwise.span_of_blocks(blocks)
        pixels = TILE_ROWS * conv_pointwise._most_tiles(span * LANES)
        assert pixels >= (conv_pointwise.FEW_PIXELS if span == blocks else conv_pointwise.MANY_PIXELS)


def test_a_task_has_as_much_as_its_cache_holds_and_there_are_enough_of_them() -> None:
    outputs, inputs, runs = conv_pointwise_weights.cuts(32, 32, 1, 16, 1)
    assert (
        outputs * conv_pointwise_weights.panel_width(32) * inputs * LANES == conv_pointwise_weights.BLOCK**2
    )
    assert runs == 1
    assert conv_pointwise_weights.cuts(4, 4, 1, 16, 2)[2] == 8  # one block of weights, shared by leaves
    assert conv_pointwise_weights.cuts(4, 4, 1, 1, 2)[2] == 1


@pytest.mark.parametrize("direction", PASSES)
def test_only_kernels_of_1x1_without_padding_are_pointwise(direction: str) -> None:
    image = (2 * LANES, 6, 6)
    assert isinstance(Conv2d(LANES, 1).algorithm_of(direction, 2, image), Pointwise)
    assert isinstance(Conv2d(LANES, 1, stride=2).algorithm_of(direction, 2, image), Pointwise)
    assert not isinstance(Conv2d(LANES, 1, padding=1).algorithm_of(direction, 2, image), Pointwise)
    assert not isinstance(Conv2d(LANES, (1, 3)).algorithm_of(direction, 2, image), Pointwise)
    for padding in (((0, 1), (0, 0)), ((0, 0), (0, 1))):
        behind = Conv2d(LANES, 1, padding=padding)
        assert not isinstance(behind.algorithm_of(direction, 2, image), Pointwise)
    unread = Conv2d(LANES, 1, stride=4, padding=((0, 1), (0, 1)))  # no pixel behind the image is met
    assert isinstance(unread.algorithm_of(direction, 2, image), Pointwise)


def test_passes_share_no_working_memory() -> None:
    layer, image = Conv2d(LANES, 1), (2 * LANES, 6, 6)
    names = [
        name
        for direction in (FORWARD, BACKWARD_WEIGHTS, BACKWARD_DATA)
        for name in layer.algorithm_of(direction, 2, image).scratch(direction, 4, 2, 1, pools=False)
    ]
    assert len(names) == len(set(names))
