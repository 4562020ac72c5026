"""Jordan's network for CIFAR-10, airbench94 (2024, arXiv:2404.00498): 94 % with little arithmetic."""

from collections.abc import Sequence

from engine.graph import Graph, GraphBuilder
from engine.models.whitening import cifar10_filters
from layers.activations import GELU
from layers.batch_norm import BatchNorm
from layers.conv2d import Conv2d
from layers.flatten import Flatten
from layers.given import Given
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.multiply import Multiply

WIDTHS = (64, 256, 256)
"""Channels of the three groups."""
_NORM = BatchNorm(momentum=0.4, scaled=False)
_GAIN = 1 / 3  # of PyTorch's uniform initial weights
_LOGIT_SCALE = 1 / 9


def airbench94(classes: int = 10, image: Sequence[int] = (3, 32, 32)) -> Graph:
    """Return the network: a first layer that whitens and is not trained, and 1,971,616 parameters."""
    net = GraphBuilder(image)
    filters = cifar10_filters()
    net.add("whiten", Given(Conv2d(len(filters), filters.shape[2], bias=False), {"weight": filters}))
    net.add("gelu", GELU())
    for group, channels in enumerate(WIDTHS, start=1):
        for index in (1, 2):
            name = f"{group}_{index}"
            net.add(f"conv{name}", Conv2d(channels, 3, padding=1, bias=False, gain=_GAIN, identity=True))
            if index == 1:
                net.add(f"pool{group}", MaxPool(2, 2))
            net.add(f"norm{name}", _NORM)
            net.add(f"gelu{name}", GELU())
    net.add("pool", MaxPool(3, 3))
    net.add("flatten", Flatten())
    net.add("fc", Linear(classes, bias=False, gain=_GAIN))
    net.add("scale", Multiply(_LOGIT_SCALE))
    return net.graph()
