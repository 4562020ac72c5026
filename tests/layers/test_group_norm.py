"""Group and layer normalisation beside PyTorch's, and where numbers are far from zero."""

import numpy as np
import pytest

from layers.group_norm import GroupNorm
from layers.layer import Layer
from layers.layer_norm import LayerNorm
from layers.reference import Problem, reference_of
from tests.layers import harness, like_torch

CASES = [
    (GroupNorm(4, epsilon=1e-3), (40, 5, 7)),
    (GroupNorm(1), (17, 3, 3)),
    (GroupNorm(17), (17, 9, 30)),
    (GroupNorm(5), (20,)),
    (LayerNorm(), (37,)),
]
every = pytest.mark.parametrize(("layer", "shape"), CASES, ids=str)


@every
def test_pytorch_computes_the_same(layer: Layer, shape):
    torch = pytest.importorskip("torch")
    given = harness.problem(layer, (shape,), 6)
    if isinstance(layer, GroupNorm):
        theirs = torch.nn.GroupNorm(layer.groups, shape[0], eps=layer.epsilon)
    else:
        theirs = torch.nn.LayerNorm(shape, eps=layer.epsilon)
    like_torch.agree(layer, theirs, given)


@every
def test_a_mean_far_from_zero_costs_no_more_than_its_rounding(layer, shape):
    given = harness.problem(layer, (shape,), 3)
    x = (given.inputs[0] + 1e3).astype(np.float32).astype(np.float64)
    moved = Problem((x,), given.parameters, given.dys, given.samples)
    wanted = reference_of(layer).forward(layer, moved)[0]
    # A mean of 1,000 is rounded to 3e-5, beside the deviation of four values of 0.1, and weights of up to 3.
    np.testing.assert_allclose(harness.run(layer, moved).y[0].plain(), wanted, rtol=0, atol=1e-3)


@every
def test_backward_passes_may_run_in_either_order(layer, shape):
    given = harness.problem(layer, (shape,), 4)
    usual, other = (harness.run(layer, given, leaves=2, data_first=first) for first in (False, True))
    np.testing.assert_array_equal(usual.dx[0].plain(), other.dx[0].plain())
    for name, gradient in usual.gradients.items():
        np.testing.assert_array_equal(gradient, other.gradients[name])


def test_wrong_shapes_and_numbers_are_refused():
    with pytest.raises(ValueError, match=r"^groups=3 does not divide 16 channels$"):
        GroupNorm(3).output_shape((16, 2, 2))
    with pytest.raises(ValueError, match=r"wants images or vectors, got samples of shape \(3, 4\)"):
        GroupNorm(1).output_shape((3, 4))
    with pytest.raises(
        ValueError, match=r"wants vectors, got samples of shape \(3, 4, 4\): images have Group"
    ):
        LayerNorm().output_shape((3, 4, 4))
    for wrong in (lambda: GroupNorm(0), lambda: GroupNorm(1, epsilon=0.0), lambda: LayerNorm(epsilon=-1.0)):
        with pytest.raises(ValueError, match="must be"):
            wrong()
