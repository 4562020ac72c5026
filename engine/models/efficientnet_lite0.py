"""EfficientNet-Lite0: Tan and Le 2019 (arXiv:1905.11946) without squeeze and excitation, with ReLU6.

As Google published it in 2020 for edge devices; convolutions are padded as TensorFlow's "same".
"""

from collections.abc import Sequence

from engine.graph import Graph, GraphBuilder
from engine.models.blocks import add_convolution
from layers.activations import ReLU6
from layers.add import Add
from layers.arithmetic import ceil_div
from layers.batch_norm import BatchNorm
from layers.conv2d import Conv2d
from layers.convolution.geometry import Padding
from layers.depthwise_conv2d import DepthwiseConv2d
from layers.dropout import Dropout
from layers.global_avg_pool import GlobalAvgPool
from layers.linear import Linear

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel, stride of the first one, channels inside in those that come in, channels that come out."""

_ACTIVATION = ReLU6()


def efficientnet_lite0(
    classes: int = 1000, image: Sequence[int] = (3, 224, 224), momentum: float = 0.01
) -> Graph:
    """Return the network for 3x224x224 images and 1,000 classes: 4,652,008 parameters.

    Parameters
    ----------
    momentum
        Share by which the running statistics follow a step; Google's is for runs of 100,000 steps.
    """
    net, size = GraphBuilder(image), (image[1], image[2])
    norm = BatchNorm(momentum=momentum, epsilon=1e-3)
    stem = Conv2d(32, 3, stride=2, padding=_same(size, 3, 2), bias=False)
    last, channels = add_convolution(net, "1", stem, norm=norm, activation=_ACTIVATION), 32
    size = _strided(size, 2)
    for stage, (blocks, kernel, stride, expansion, out) in enumerate(STAGES, start=2):
        for index in range(1, blocks + 1):
            step = stride if index == 1 else 1
            name, inside = f"{stage}_{index}", expansion * channels
            if expansion > 1:
                expand = Conv2d(inside, 1, bias=False)
                add_convolution(net, f"{name}_expand", expand, last, norm=norm, activation=_ACTIVATION)
            depthwise = DepthwiseConv2d(kernel, step, _same(size, kernel, step), bias=False)
            add_convolution(net, f"{name}_depthwise", depthwise, norm=norm, activation=_ACTIVATION)
            project = Conv2d(out, 1, gain=1.0, bias=False)
            made = add_convolution(net, f"{name}_project", project, norm=norm, activation=None)
            last = net.add(f"add{name}", Add(), made, last) if step == 1 and out == channels else made
            size, channels = _strided(size, step), out
    add_convolution(net, "_head", Conv2d(1280, 1, bias=False), norm=norm, activation=_ACTIVATION)
    net.add("pool", GlobalAvgPool())
    net.add("drop", Dropout(0.2))
    net.add("fc", Linear(classes, gain=1.0))
    return net.graph()


def _strided(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return ceil_div(size[0], stride), ceil_div(size[1], stride)


def _same(size: tuple[int, int], kernel: int, stride: int) -> Padding:
    """Return the padding with which size / stride pixels come out, the odd one below and on the right."""
    rows, columns = (max(0, (ceil_div(each, stride) - 1) * stride + kernel - each) for each in size)
    return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)
