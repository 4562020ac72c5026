"""GoogLeNet of Szegedy et al. 2015 (arXiv:1409.4842, table 1), with normalisation in place of its aids.

The published network normalises local responses and has two more classifiers on its way, which only help it
to begin; batch normalisation (Ioffe and Szegedy 2015) behind each convolution does that better.
"""

from collections.abc import Sequence

from engine.graph import Graph, GraphBuilder
from engine.models.blocks import add_convolution
from layers.concat import Concat
from layers.conv2d import Conv2d
from layers.dropout import Dropout
from layers.global_avg_pool import GlobalAvgPool
from layers.linear import Linear
from layers.max_pool import MaxPool

INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Channels: 1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5, behind the pool."""


def googlenet(classes: int = 1000, image: Sequence[int] = (3, 224, 224)) -> Graph:
    """Return the network for 3x224x224 images and 1,000 classes: 7,005,832 parameters."""
    net = GraphBuilder(image)
    add_convolution(net, "1", Conv2d(64, 7, stride=2, padding=3, bias=False))
    net.add("pool1", MaxPool(3, 2, ceil_mode=True))
    add_convolution(net, "2_reduced", Conv2d(64, 1, bias=False))
    add_convolution(net, "2", Conv2d(192, 3, padding=1, bias=False))
    last = net.add("pool2", MaxPool(3, 2, ceil_mode=True))
    for name, channels in INCEPTIONS.items():
        last = _inception(net, name, last, *channels)
        if name in ("3b", "4e"):
            last = net.add(f"pool{name[0]}", MaxPool(3, 2, ceil_mode=True))
    net.add("pool", GlobalAvgPool())
    net.add("drop", Dropout(0.4))
    net.add("fc", Linear(classes, gain=1.0))
    return net.graph()


def _inception(
    net: GraphBuilder,
    name: str,
    x: str,
    ones: int,
    reduce3: int,
    threes: int,
    reduce5: int,
    fives: int,
    pooled: int,
) -> str:
    """Add four branches and what joins them; return its name."""
    first = add_convolution(net, f"{name}_1x1", Conv2d(ones, 1, bias=False), x)
    add_convolution(net, f"{name}_3x3_reduced", Conv2d(reduce3, 1, bias=False), x)
    second = add_convolution(net, f"{name}_3x3", Conv2d(threes, 3, padding=1, bias=False))
    add_convolution(net, f"{name}_5x5_reduced", Conv2d(reduce5, 1, bias=False), x)
    third = add_convolution(net, f"{name}_5x5", Conv2d(fives, 5, padding=2, bias=False))
    net.add(f"pool{name}", MaxPool(3, 1, padding=1), x)
    fourth = add_convolution(net, f"{name}_pooled", Conv2d(pooled, 1, bias=False))
    return net.add(f"join{name}", Concat(), first, second, third, fourth)
