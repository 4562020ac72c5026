"""A residual network of 9 layers for small images, after Page's for CIFAR-10 (DAWNBench, 2018)."""

from collections.abc import Sequence

from engine.graph import Graph, GraphBuilder
from engine.models.blocks import add_convolution, add_pooled_stage
from layers.conv2d import Conv2d
from layers.global_avg_pool import GlobalAvgPool
from layers.linear import Linear

STAGES = ((128, True), (256, False), (512, True))
"""Channels of each stage, and whether it has a residual block."""


def resnet9(classes: int = 10, image: Sequence[int] = (3, 32, 32)) -> Graph:
    """Return the network: 6,573,130 parameters for 3x32x32 images and 10 classes."""
    net = GraphBuilder(image)
    add_convolution(net, "1", Conv2d(64, 3, padding=1, bias=False))
    for stage, (channels, is_residual) in enumerate(STAGES, start=2):
        add_pooled_stage(net, stage, channels, is_residual=is_residual)
    net.add("pool", GlobalAvgPool())
    net.add("fc", Linear(classes, gain=1.0))
    return net.graph()
