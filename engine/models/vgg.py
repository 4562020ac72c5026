"""The networks of Simonyan and Zisserman 2015 (arXiv:1409.1556, table 1): columns A, D and E."""

from collections.abc import Sequence

from engine.graph import Graph, GraphBuilder
from engine.models.blocks import add_convolution
from layers.batch_norm import BatchNorm
from layers.conv2d import Conv2d
from layers.dropout import Dropout
from layers.flatten import Flatten
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.relu import ReLU

AFTER_DROPOUT = 1.0  # gain of a layer whose inputs dropout has scaled by 2: half that of the others
CHANNELS = (64, 128, 256, 512, 512)
"""Of each stage."""


def vgg_a(classes: int = 1000, image: Sequence[int] = (3, 224, 224), norm: bool = False) -> Graph:
    """Return the network of 11 layers; for 3x224x224 images and 1,000 classes 132,863,336 parameters.

    Parameters
    ----------
    norm
        Batch normalisation behind each convolution.
    """
    return _vgg((1, 1, 2, 2, 2), classes, image, norm)


def vgg_d(classes: int = 1000, image: Sequence[int] = (3, 224, 224), norm: bool = False) -> Graph:
    """Return the network of 16 layers (VGG-16): 138,357,544 parameters; arguments as of `vgg_a`."""
    return _vgg((2, 2, 3, 3, 3), classes, image, norm)


def vgg_e(classes: int = 1000, image: Sequence[int] = (3, 224, 224), norm: bool = False) -> Graph:
    """Return the network of 19 layers (VGG-19): 143,667,240 parameters; arguments as of `vgg_a`."""
    return _vgg((2, 2, 4, 4, 4), classes, image, norm)


def _vgg(depths: Sequence[int], classes: int, image: Sequence[int], norm: bool) -> Graph:
    net = GraphBuilder(image)
    for stage, (depth, channels) in enumerate(zip(depths, CHANNELS, strict=True), start=1):
        for index in range(1, depth + 1):
            add_convolution(
                net,
                f"{stage}_{index}",
                Conv2d(channels, 3, padding=1, bias=not norm),
                norm=BatchNorm() if norm else None,
            )
        net.add(f"pool{stage}", MaxPool(2, 2))
    net.add("flatten", Flatten())
    for name, gain in (("fc6", 2.0), ("fc7", AFTER_DROPOUT)):
        net.add(name, Linear(4096, gain=gain))
        net.add(f"relu_{name}", ReLU())
        net.add(f"drop_{name}", Dropout(0.5))
    net.add("fc8", Linear(classes, gain=AFTER_DROPOUT / 2))
    return net.graph()
