"""Gradients of leaves with many pixels: they are cut into runs by shape, and stay accurate."""

import numpy as np
import pytest

from layers.conv2d import Conv2d
from layers.convolution.algorithm import Algorithm
from layers.convolution.direct import Direct
from layers.convolution.first_layer import FirstLayer
from layers.convolution.pointwise import Pointwise
from layers.depthwise_conv2d import DepthwiseConv2d
from layers.fused_conv2d import Conv2dReLUPool
from layers.kernels import runs
from layers.kernels.runs import rows_of_run, runs_of_leaf
from layers.layer import Layer, Shape
from layers.reference import reference_of
from tests.layers.algorithms import assert_same_bits, run_algorithm
from tests.layers.harness import problem, run

LONG = [
    (Conv2d(16, 3, padding=1), (3, 224, 224)),
    (Conv2d(16, 3, padding=1, algorithm="direct"), (5, 224, 224)),
    (Conv2d(16, 1), (5, 224, 224)),
    (DepthwiseConv2d(3, padding=1), (5, 224, 224)),
]


@pytest.mark.parametrize(("conv", "shape"), LONG, ids=str)
def test_the_gradients_of_a_leaf_of_large_images_are_accurate(conv: Layer, shape: Shape) -> None:
    given = problem(conv, (shape,), 4)
    computed = run(conv, given).gradients
    for name, expected in reference_of(conv).backward_weights(conv, given).items():
        error = np.linalg.norm(computed[name] - expected) / np.linalg.norm(expected)
        assert error <= 7e-6, (
            name
        )  # a chain over all 200,704 pixels: 7.3e-6 to 9.9e-6; the cut ones up to 5.7e-6


@pytest.mark.parametrize(
    ("kind", "conv", "shape"),
    [
        (FirstLayer, Conv2d(40, 3, padding=1), (3, 9, 7)),
        (FirstLayer, Conv2d(17, 5, stride=3), (1, 16, 70)),
        (Pointwise, Conv2d(40, 1), (33, 5, 7)),
        (Pointwise, Conv2d(40, 1, stride=2), (33, 5, 7)),
    ],
    ids=str,
)
@pytest.mark.parametrize("longest", [5, 40, 100])
def test_all_kernels_cut_the_same_runs(
    kind: type[Algorithm], conv: Conv2d, shape: Shape, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "LONGEST", longest)
    assert_same_bits(run_algorithm(kind, conv, shape, threads=2), run_algorithm(Direct, conv, shape))


@pytest.mark.parametrize("shape", [(3, 9, 7), (17, 9, 8)], ids=str)
@pytest.mark.parametrize("leaves", [1, 2])
def test_a_pooled_gradient_is_cut_as_the_whole_one(
    shape: Shape, leaves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result has an odd number of rows, of which no window covers the last."""
    monkeypatch.setattr(runs, "LONGEST", 20)
    fused = Conv2dReLUPool(Conv2d(33, 3, padding=1, algorithm="direct"))
    given = problem(fused, (shape,), 6)
    computed = run(fused, given, leaves=leaves).gradients
    expected = reference_of(fused).backward_weights(fused, given)
    monkeypatch.setattr(runs, "LONGEST", 1 << 15)
    uncut = run(fused, given, leaves=leaves).gradients
    for name, gradient in computed.items():
        np.testing.assert_allclose(gradient, expected[name], rtol=0, atol=1e-5 * np.abs(expected[name]).max())
        assert not np.array_equal(gradient, uncut[name]), name


def test_the_runs_of_a_leaf_are_a_power_of_two_and_hold_all_its_rows() -> None:
    assert runs_of_leaf(1, 28, 28) == 1
    assert runs_of_leaf(4, 224, 224) == 8
    assert runs_of_leaf(1, 1, 1 << 20) == 1  # a single row is not cut
    assert runs_of_leaf(1, 3, 1 << 20) == 2
    cut, samples, rows = runs_of_leaf(3, 301, 224), 3, 301
    ranges = [rows_of_run.py_func(run, cut, samples, rows) for run in range(2 * cut)]
    assert cut == 8
    assert [first for first, _ in ranges] == [0, *(end for _, end in ranges[:-1])]
    assert ranges[cut - 1][1] == samples * rows
    assert ranges[-1][1] == 2 * samples * rows
