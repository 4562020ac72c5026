"""The balance equations on the paper's worked cases, and what follows from their definitions."""

import math

import pytest

from engine.models import MODELS
from engine.planner import balance
from layers.conv2d import Conv2d
from layers.fused_conv2d import Conv2dReLU, Conv2dReLUPool
from layers.linear import Linear
from layers.relu import ReLU
from layers.work import Extents

CONV = Extents(ifm=48, ofm=96, kh=5, kw=3, oh=24, ow=20, ih=28, iw=22)
FULLY_CONNECTED = Extents(ifm=4096, ofm=1000)


@pytest.mark.parametrize(
    ("ranks", "batch", "inputs", "outputs", "best", "groups", "hybrid", "model", "data"),
    [
        (64, 256, 4096, 4096, 2.0, 2, 8.4, 8.4, 134.2),
        (128, 512, 4096, 4096, 4.0, 4, 8.4, 16.8, 134.2),
        (64, 256, 25088, 4096, 2.0, 2, 51.4, 51.4, 822.1),
        (64, 256, 36864, 3072, 2.3, 2, 66.1, 75.5, 906.0),
        (16, 1024, 2048, 2048, 2.8, 2, 12.6, 16.8, 33.6),
        (16, 1024, 2048, 2048, 2.8, 4, 12.6, 16.8, 33.6),
    ],
)
def test_the_equations_give_the_worked_cases(
    ranks, batch, inputs, outputs, best, groups, hybrid, model, data
):
    layer = Extents(inputs, outputs)
    assert balance.best_groups(layer, batch, ranks) == pytest.approx(best, abs=0.05)
    for count, want in ((groups, hybrid), (1, model), (ranks, data)):
        assert balance.hybrid(layer, batch, ranks, count) / 1e6 == pytest.approx(want, rel=6e-3)


def test_vgg_fc6_in_two_groups_sends_as_much_inside_as_between():
    fc6 = Extents(25088, 4096)
    assert balance.inside_group(fc6, 256, 64, 2) / 1e6 == pytest.approx(25.7, abs=0.05)
    assert balance.between_groups(fc6, 64, 2) / 1e6 == pytest.approx(25.7, abs=0.05)


@pytest.mark.parametrize(
    "layer", [CONV, FULLY_CONNECTED, Extents(3, 96, 11, 11, 56, 56, 231, 231), Extents(7, 5, oh=9, ow=2)]
)
@pytest.mark.parametrize("samples", [0.5, 4])
def test_at_full_overlap_the_intensity_knows_only_maps_and_samples(layer, samples):
    assert balance.intensity(layer, samples, overlap=1) == pytest.approx(1.5 * layer.ow * layer.oh * samples)


def test_platforms_have_the_ratios_that_the_paper_reports():
    assert balance.platform_ratio(2 * 16 * 2.3e9 * 32, 7e9) == pytest.approx(336, abs=1)
    assert balance.platform_ratio(18 * 2.9e9 * 32, 10e9 / 8) == pytest.approx(1336, abs=1)


@pytest.mark.parametrize("layer", [CONV, FULLY_CONNECTED])
@pytest.mark.parametrize("overlap", [0.0, 0.4, 1.0])
def test_hybrid_is_data_parallel_at_one_end_and_model_parallel_at_the_other(layer, overlap):
    assert balance.hybrid(layer, 256, 64, 64, overlap=overlap) == balance.data_parallel(
        layer, overlap=overlap
    )
    assert balance.hybrid(layer, 256, 64, 1, overlap=overlap) == balance.model_parallel(layer, 256)


def test_volumes_of_a_convolution_follow_the_formulas():
    assert balance.computation(CONV, 4) == 3 * 2 * 4 * 48 * 96 * 5 * 3 * 24 * 20
    assert balance.data_parallel(CONV, overlap=0.25) == 4 * 48 * 96 * 5 * 3 * 1.75
    assert balance.model_parallel(CONV, 256) == 2 * 4 * 48 * 28 * 22 * 256


@pytest.mark.parametrize(("batch", "better"), [(999, True), (1000, False), (1001, False)])
def test_a_fully_connected_layer_prefers_model_parallelism_where_ofm_is_more_than_the_minibatch(
    batch, better
):
    assert balance.prefers_model_parallel(FULLY_CONNECTED, batch) is better


def test_large_maps_never_prefer_model_parallelism():
    assert not balance.prefers_model_parallel(Extents(64, 128, 3, 3, 112, 112, 112, 112), 2)


@pytest.mark.parametrize("layer", [CONV, Extents(4096, 4096), Extents(2048, 9304)])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_no_number_of_groups_sends_less_than_the_best(layer, overlap):
    ranks, batch = 4096, 512
    best = balance.best_groups(layer, batch, ranks, overlap=overlap)

    def volume(groups: float) -> float:
        return balance.between_groups(layer, ranks, groups, overlap=overlap) + balance.inside_group(
            layer, batch, ranks, groups
        )

    assert best > 1
    assert volume(best) <= min(volume(best * factor) for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2))
    assert balance.between_groups(layer, ranks, best, overlap=overlap) == pytest.approx(
        balance.inside_group(layer, batch, ranks, best)
    )


def test_overlap_halves_what_goes_between_groups_only():
    assert (
        balance.between_groups(CONV, 8, 4, overlap=1.0) == balance.between_groups(CONV, 8, 4, overlap=0.0) / 2
    )


def test_a_gradient_hides_behind_its_own_backward_data_and_all_layers_before():
    flop, volumes = [30.0, 60.0, 90.0], [1.0, 2.0, 400.0]
    assert [balance.hiding_computation(flop, i) for i in range(3)] == [10, 50, 120]
    assert [balance.hidden_communication(volumes, i) for i in range(3)] == [1, 3, 403]
    rates = {"flops_per_s": 10.0, "bytes_per_s": 2.0}
    waits = [balance.bubble(flop, volumes, i, **rates) for i in range(3)]
    assert waits == [0, 0, 403 / 2 - 12]
    assert balance.exposed(flop, volumes, **rates) == waits[2]


def test_one_wait_serves_all_layers_behind_it():
    flop, volumes = [3.0, 3.0], [11.0, 1.0]
    assert [balance.bubble(flop, volumes, i, flops_per_s=1, bytes_per_s=1) for i in (0, 1)] == [10, 8]
    assert balance.exposed(flop, volumes, flops_per_s=1, bytes_per_s=1) == 10


def test_an_infinite_network_scales_perfectly():
    assert balance.exposed([3.0], [1e9], flops_per_s=1, bytes_per_s=math.inf) == 0
    assert balance.efficiency(2.0, 0.0) == 1
    assert balance.efficiency(2.0, 2.0) == 0.5


def test_extents_are_those_of_the_layer():
    shape = (48, 28, 22)
    conv = Conv2d(96, (5, 3))
    want = Extents(48, 96, 5, 3, 24, 20, 28, 22)
    assert conv.extents(shape) == want
    assert Conv2dReLU(conv).extents(shape) == want
    assert Conv2dReLUPool(conv).extents(shape) == want
    assert Linear(7).extents((5,)) == Extents(5, 7)
    assert ReLU().extents(shape) is None


@pytest.mark.parametrize(("model", "gflop"), [("vgg_a", 45.7), ("overfeat_fast", 16.8), ("cd_dnn", 0.271)])
def test_training_flop_of_the_networks_are_the_papers(model, gflop):
    graph = MODELS[model]()
    found = (node.layer.extents(*graph.input_shapes(node)) for node in graph)
    total = sum(balance.computation(each, 1) for each in found if each is not None)
    assert total / 1e9 == pytest.approx(gflop, rel=2e-3)
