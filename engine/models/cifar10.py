"""A VGG-like network for 32x32 colour images."""

from collections.abc import Sequence

from engine.graph import Graph, GraphBuilder
from layers.avg_pool import AvgPool
from layers.conv2d import Conv2d
from layers.dropout import Dropout
from layers.flatten import Flatten
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.relu import ReLU


def cifar10(classes: int = 10, image: Sequence[int] = (3, 32, 32)) -> Graph:
    """Return three pairs of 3x3 convolutions with 32, 64 and 128 channels, and one classifier."""
    net = GraphBuilder(image)
    for stage, channels in ((1, 32), (2, 64), (3, 128)):
        for index in (1, 2):
            net.add(f"conv{stage}_{index}", Conv2d(channels, 3, padding=1))
            net.add(f"relu{stage}_{index}", ReLU())
        if stage < 3:
            net.add(f"pool{stage}", MaxPool(2, 2))
    net.add("pool3", AvgPool(2, 2))
    net.add("flatten", Flatten())
    net.add("drop", Dropout(0.2))
    net.add("fc4", Linear(classes, gain=1.0))
    return net.graph()
