"""The search for block sizes against the published figures, and against its own rules."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from engine.models import MODELS
from layers.blocking import PASSES, Block, Nest, bytes_per_flop, nest, search
from layers.conv2d import Conv2d
from layers.kernels import caches
from layers.kernels.caches import band_rows
from layers.kernels.register_tile import at_once
from layers.kernels.simd import LANES
from layers.kernels.target import TARGET

KB = 1024


def _convolutions(direction: str, minibatch: int) -> Iterator[tuple[str, Nest]]:
    for model in ("vgg_a", "overfeat_fast"):
        graph = MODELS[model]()
        for node in graph:
            if isinstance(node.layer, Conv2d):
                (shape,), layer = graph.input_shapes(node), node.layer
                assert isinstance(layer.kernel, int) and isinstance(layer.padding, int)
                kernel, padding = (layer.kernel, layer.kernel), (layer.padding, layer.padding)
                channels, image = (shape[0], layer.out_channels), (shape[1], shape[2])
                yield (
                    f"{model}:{node.name}",
                    nest(direction, minibatch, channels, image, kernel, layer.stride, padding),
                )


OVERFEAT_C5 = nest("forward", 1, (1024, 1024), (12, 12), (3, 3), 1, (1, 1))


def test_overfeat_c5_unblocked_moves_0_54_bytes_per_flop() -> None:
    one_map_from_one_map = Block(minibatch=1, ofm=1, ifm=1, oh=12, ow=12)
    assert round(bytes_per_flop(OVERFEAT_C5, one_map_from_one_map), 2) == 0.54


@pytest.mark.parametrize("direction", PASSES)
def test_128_kb_are_enough_for_0_04_bytes_per_flop_in_all_convolutions_but_vggs_first(direction: str) -> None:
    found = {name: search(loops, 128 * KB).bytes_per_flop for name, loops in _convolutions(direction, 1)}
    above = [name for name, value in found.items() if value > 0.04]
    assert len(found) == 13
    assert above == ["vgg_a:conv1_1"]  # 3 channels: 27 multiply-adds a result, which is written once


@pytest.mark.parametrize("direction", PASSES)
def test_blocks_fit_the_cache_and_a_larger_cache_never_needs_more_traffic(direction: str) -> None:
    for _, loops in _convolutions(direction, 16):
        last = float("inf")
        for size in (128 * KB, 256 * KB, 1024 * KB):
            found = search(loops, size)
            assert sum(loops.operand_bytes(found.block)) == found.block_bytes <= size
            assert found.bytes_per_flop <= last
            last = found.bytes_per_flop


@pytest.mark.parametrize("direction", PASSES)
def test_traffic_is_at_least_every_operand_once_and_equal_to_it_where_all_fit(direction: str) -> None:
    loops = nest(direction, 2, (64, 96), (10, 10), (3, 3), 1, (1, 1))
    whole = Block(loops.minibatch, loops.ofm, loops.ifm, loops.oh, loops.ow)
    once = bytes_per_flop(loops, whole)
    assert search(loops, 10_000 * KB).bytes_per_flop == pytest.approx(once)
    assert search(loops, 64 * KB).bytes_per_flop > once


def test_a_fully_connected_layer_reads_each_weight_once() -> None:
    found = search(nest("forward", 32, (4096, 4096)), 1024 * KB)
    weights_once = 4 / (2 * 32)
    assert weights_once < found.bytes_per_flop < 1.05 * weights_once
    assert found.block.minibatch == 32


def test_bound_compares_the_traffic_with_the_machine() -> None:
    found = search(OVERFEAT_C5, 1024 * KB)
    balance = found.bytes_per_flop * 1e12  # bytes/s that feed 1 TFLOP/s
    assert found.bound(1e12, 1.01 * balance) == "compute"
    assert found.bound(1e12, 0.99 * balance) == "memory"


def test_a_block_that_cannot_be_made_small_enough_is_refused() -> None:
    with pytest.raises(ValueError, match="no block fits 100 bytes"):
        search(OVERFEAT_C5, 100)


def test_an_unknown_pass_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of forward, backward_data, backward_weights"):
        nest("backward", 1, (16, 16))


def test_the_search_is_a_function_of_its_arguments() -> None:
    again = search.__wrapped__(OVERFEAT_C5, 128 * KB)
    assert again == search(OVERFEAT_C5, 128 * KB)


@pytest.mark.parametrize("direction", PASSES)
def test_tiles_fit_the_registers(direction: str) -> None:
    for _, loops in _convolutions(direction, 1):
        tile = search(loops, 1024 * KB).tile
        assert at_once(tile.rows, tile.vectors) == tile.vectors or TARGET.width < LANES
        assert tile.tail < tile.rows


def test_backward_data_with_a_stride_does_the_flops_of_forward() -> None:
    forward = nest("forward", 1, (64, 32), (32, 32), (4, 4), 2, (1, 1))
    backward = nest("backward_data", 1, (64, 32), (32, 32), (4, 4), 2, (1, 1))
    assert backward.flops() == forward.flops()
    assert (backward.ofm, backward.ifm) == (forward.ifm, forward.ofm)
    assert backward.reach(2, 4) == 3  # two columns of dx meet three of dy


def test_bands_fit_what_they_are_given() -> None:
    assert band_rows(14, 64, 28 * KB) == 8
    assert band_rows(10_000, 64, 28 * KB) == 1
    assert band_rows(14, 64) >= 1


def test_caches_of_this_host_are_plausible() -> None:
    found = caches.caches()
    assert 8 * KB <= found.l1 <= found.l2


@pytest.mark.parametrize(("text", "size"), [("48K", 48 * KB), ("32M", 32 * KB * KB), ("512", 512)])
def test_sizes_of_caches_are_read(text: str, size: int) -> None:
    assert caches._bytes(text) == size


@pytest.mark.parametrize(("text", "count"), [("0", 1), ("0-3", 4), ("0,4", 2), ("0-1,8-9", 4)])
def test_cores_that_share_a_cache_are_counted(text: str, count: int) -> None:
    assert caches._count(text) == count


def test_samples_share_a_block_only_as_whole_images() -> None:
    loops = replace(OVERFEAT_C5, minibatch=64)
    block = search(loops, 1024 * KB).block
    assert block.minibatch == 1 or (block.oh, block.ow) == (12, 12)
