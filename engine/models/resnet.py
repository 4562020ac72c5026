"""Residual networks of He et al. 2016 (arXiv:1512.03385, table 1), in the form called v1.5.

A bottleneck that halves the image does so in its 3x3 convolution, and the last normalisation of each block
starts at zero (Goyal et al. 2017, arXiv:1706.02677): so each block starts as its shortcut.
"""

from collections.abc import Callable, Sequence

from engine.graph import Graph, GraphBuilder
from engine.models.blocks import add_convolution
from layers.add import Add
from layers.batch_norm import BatchNorm
from layers.conv2d import Conv2d
from layers.global_avg_pool import GlobalAvgPool
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.relu import ReLU

WIDTHS = (64, 128, 256, 512)
"""Of the 3x3 convolutions of each stage."""
EXPANSION = 4
"""Channels of a bottleneck's result, in widths."""

Block = Callable[[GraphBuilder, str, int, int], tuple[str, int]]
"""Adds the convolutions of a block, given its name, width and stride; returns its value and channels."""


def resnet18(classes: int = 1000, image: Sequence[int] = (3, 224, 224)) -> Graph:
    """Return the network of 18 layers: 11,689,512 parameters for 1,000 classes."""
    return _resnet(_basic, (2, 2, 2, 2), classes, image)


def resnet34(classes: int = 1000, image: Sequence[int] = (3, 224, 224)) -> Graph:
    """Return the network of 34 layers: 21,797,672 parameters for 1,000 classes."""
    return _resnet(_basic, (3, 4, 6, 3), classes, image)


def resnet50(classes: int = 1000, image: Sequence[int] = (3, 224, 224)) -> Graph:
    """Return the network of 50 layers: 25,557,032 parameters for 1,000 classes."""
    return _resnet(_bottleneck, (3, 4, 6, 3), classes, image)


def resnet101(classes: int = 1000, image: Sequence[int] = (3, 224, 224)) -> Graph:
    """Return the network of 101 layers: 44,549,160 parameters for 1,000 classes."""
    return _resnet(_bottleneck, (3, 4, 23, 3), classes, image)


def _resnet(block: Block, depths: Sequence[int], classes: int, image: Sequence[int]) -> Graph:
    net = GraphBuilder(image)
    add_convolution(net, "1", Conv2d(WIDTHS[0], 7, stride=2, padding=3, bias=False))
    shortcut, channels = net.add("pool1", MaxPool(3, 2, padding=1)), WIDTHS[0]
    for stage, (depth, width) in enumerate(zip(depths, WIDTHS, strict=True), start=2):
        for index in range(1, depth + 1):
            name, stride = f"{stage}_{index}", 2 if index == 1 and stage > 2 else 1
            value, made = block(net, name, width, stride)
            if made != channels or stride > 1:
                projection = Conv2d(made, 1, stride=stride, bias=False)
                shortcut = add_convolution(net, f"{name}_shortcut", projection, shortcut, activation=None)
            net.add(f"add{name}", Add(), value, shortcut)
            shortcut, channels = net.add(f"relu{name}", ReLU()), made
    net.add("pool", GlobalAvgPool())
    net.add("fc", Linear(classes, gain=1.0))
    return net.graph()


def _basic(net: GraphBuilder, name: str, width: int, stride: int) -> tuple[str, int]:
    add_convolution(net, f"{name}_1", Conv2d(width, 3, stride=stride, padding=1, bias=False))
    second = Conv2d(width, 3, padding=1, bias=False)
    return add_convolution(
        net, f"{name}_2", second, norm=BatchNorm(initial_scale=0.0), activation=None
    ), width


def _bottleneck(net: GraphBuilder, name: str, width: int, stride: int) -> tuple[str, int]:
    add_convolution(net, f"{name}_1", Conv2d(width, 1, bias=False))
    add_convolution(net, f"{name}_2", Conv2d(width, 3, stride=stride, padding=1, bias=False))
    channels = EXPANSION * width
    third = Conv2d(channels, 1, bias=False)
    return add_convolution(
        net, f"{name}_3", third, norm=BatchNorm(initial_scale=0.0), activation=None
    ), channels
