"""Layers compute what PyTorch's of the same name compute, forward and back: the field's conventions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from layers.activations import GELU, HardSigmoid, HardSwish, ReLU6, SiLU
from layers.adaptive_avg_pool import AdaptiveAvgPool
from layers.conv2d import Conv2d
from layers.depthwise_conv2d import DepthwiseConv2d
from layers.global_avg_pool import GlobalAvgPool
from layers.grouped_conv2d import GroupedConv2d
from layers.layer import Layer, Shape
from layers.max_pool import MaxPool
from layers.scale import Scale
from tests.layers import harness

torch = pytest.importorskip("torch")
F = torch.nn.functional

TOLERANCE = 1e-5
"""Of the largest element: float32 here, float64 there, sums of a few thousand terms."""

Computed = Callable[..., Any]
"""Takes the inputs and the parameters by name, as tensors."""

SIDES: dict[str, tuple[Layer, tuple[Shape, ...], Computed]] = {
    "max pool 3x3/2": (MaxPool(3, 2, 1), ((17, 12, 9),), lambda x: F.max_pool2d(x, 3, 2, 1)),
    "max pool, ceil mode": (
        MaxPool(3, 2, ceil_mode=True),
        ((16, 12, 9),),
        lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True),
    ),
    "max pool, ceil mode, padded": (
        MaxPool((2, 3), 3, 1, ceil_mode=True),
        ((3, 6, 7),),
        lambda x: F.max_pool2d(x, (2, 3), 3, 1, ceil_mode=True),
    ),
    "adaptive average pool": (
        AdaptiveAvgPool((5, 3)),
        ((17, 7, 8),),
        lambda x: F.adaptive_avg_pool2d(x, (5, 3)),
    ),
    "global average pool": (GlobalAvgPool(), ((33, 9, 7),), lambda x: x.mean((2, 3))),
    "depthwise 3x3/2": (
        DepthwiseConv2d(3, 2, 1),
        ((19, 12, 9),),
        lambda x, weight, bias: F.conv2d(x, weight, bias, 2, 1, groups=19),
    ),
    "depthwise 5x3, dilated": (
        DepthwiseConv2d((5, 3), 2, (4, 1), dilation=2, bias=False),
        ((16, 12, 9),),
        lambda x, weight: F.conv2d(x, weight, None, 2, (4, 1), 2, groups=16),
    ),
    "dilated 3x3/2": (
        Conv2d(33, 3, 2, 3, dilation=3),
        ((17, 12, 9),),
        lambda x, weight, bias: F.conv2d(x, weight, bias, 2, 3, 3),
    ),
    "grouped 3x3, 4 channels a group": (
        GroupedConv2d(64, 3, 16, 2, 1),
        ((64, 9, 8),),
        lambda x, weight, bias: F.conv2d(x, weight, bias, 2, 1, groups=16),
    ),
    "GELU": (GELU(), ((300,),), F.gelu),
    "SiLU": (SiLU(), ((300,),), F.silu),
    "hard-swish": (HardSwish(), ((300,),), F.hardswish),
    "hard-sigmoid": (HardSigmoid(), ((300,),), F.hardsigmoid),
    "ReLU6": (ReLU6(), ((300,),), F.relu6),
    "scale": (Scale(), ((17, 5, 7), (17, 1, 1)), lambda x, factors: x * factors),
}


@pytest.mark.parametrize("name", SIDES)
def test_a_layer_and_its_gradients_are_those_of_torch(name: str) -> None:
    layer, shapes, function = SIDES[name]
    given = harness.problem(layer, shapes, samples=3)
    result = harness.run(layer, given)
    inputs = [torch.tensor(x, requires_grad=True) for x in given.inputs]
    parameters = {key: torch.tensor(value, requires_grad=True) for key, value in given.parameters.items()}
    y = function(*inputs, **parameters)
    y.backward(torch.tensor(given.dys[0]))
    _assert_close(result.y[0].plain(), y.detach())
    for made, tensor in zip(result.dx, inputs, strict=True):
        _assert_close(made.plain(), tensor.grad)
    for key, tensor in parameters.items():
        _assert_close(result.gradients[key], tensor.grad)


def _assert_close(ours: Any, theirs: Any) -> None:
    right = theirs.numpy()
    assert ours.shape == right.shape
    np.testing.assert_allclose(ours, right, rtol=0, atol=TOLERANCE * np.abs(right).max())
