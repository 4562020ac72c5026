"""The named problems: well formed, and the networks that they say they are."""

import pytest

from bench.blocking import nest_of
from bench.shapes import NETWORKS, PASSES, problems, select
from engine.models import MODELS
from layers.depthwise_conv2d import DepthwiseConv2d
from layers.grouped_conv2d import GroupedConv2d
from layers.linear import Linear


def test_every_problem_has_a_shape_and_passes() -> None:
    for name, problem in problems().items():
        assert name == problem.name
        assert name.count(":") == 1
        assert problem.minibatch >= 1
        assert all(extent >= 1 for extent in problem.output)
        assert "forward" in problem.passes()
        assert set(problem.passes()) <= set(PASSES)


@pytest.mark.parametrize("model", NETWORKS)
def test_the_layers_of_a_network_have_its_parameters(model: str) -> None:
    of_model = [problem for name, problem in problems().items() if name.startswith(f"{model}:")]
    graph = MODELS[model]()
    assert len(of_model) == len(graph)
    assert sum(problem.parameter_count() for problem in of_model) == graph.parameter_count()
    assert sum("backward_data" not in problem.passes() for problem in of_model) == 1


def _weights(name: str) -> int:
    problem = problems()[name]
    return problem.parameter_count() - problem.output[0]


def test_alexnet_has_its_weights() -> None:
    """The 2,332,704 of the version in two groups, with conv2, 4 and 5 in one."""
    groups = 48 * 25 * 256 + 192 * 9 * 384 + 192 * 9 * 256
    assert sum(_weights(f"alexnet:conv{layer}") for layer in range(1, 6)) == 2_332_704 + groups


def test_resnet50_has_its_weights() -> None:
    """25,557,032 parameters, of which 2,049,000 of the classifier and 53,120 of the normalisation."""
    total = _weights("resnet50:conv1")
    for stage, blocks in ((2, 3), (3, 4), (4, 6), (5, 3)):
        times = {"shortcut": 1, "first": 1, "3x3": blocks, "expand": blocks, "reduce": blocks - 1}
        total += sum(count * _weights(f"resnet50:conv{stage}_{layer}") for layer, count in times.items())
    assert total == 25_557_032 - 2_049_000 - 53_120


def test_googlenet_has_its_parameters() -> None:
    """6,998,552 without the auxiliary classifiers, of which 1,025,000 of the classifier."""
    convolutions = [problem for name, problem in problems().items() if name.startswith("googlenet:")]
    assert sum(problem.parameter_count() for problem in convolutions) == 6_998_552 - 1_025_000


def test_flops_are_those_of_the_direct_algorithm() -> None:
    conv, gemm = problems()["vgg_a:conv3_2"], problems()["gemm:2048x2048x2048"]
    assert conv.at(1).flops() == 2 * 256 * 256 * 9 * 56 * 56
    assert gemm.flops() == 2 * 2048**3
    assert isinstance(gemm.layer, Linear)


def test_filters_select_by_part_and_by_pattern() -> None:
    assert [problem.name for problem in select(["vgg_a:conv3"])] == ["vgg_a:conv3_1", "vgg_a:conv3_2"]
    assert all(problem.name.startswith("gemm:") for problem in select(["gemm:*"]))
    assert len(select([])) == len(problems())
    with pytest.raises(ValueError, match="no problem is called like 'vgg_b'"):
        select(["vgg_b"])


def test_every_convolution_and_product_has_a_nest_with_its_flops() -> None:
    for problem in problems().values():
        loops = nest_of(problem, "forward")
        in_groups = isinstance(problem.layer, (DepthwiseConv2d, GroupedConv2d))
        assert (loops is None) == (problem.flops() == 0 or in_groups)
        if loops is not None:
            assert loops.flops() == problem.flops()
