"""A small convolutional network for 8x8 grey digits."""

from collections.abc import Sequence

from engine.graph import Graph, GraphBuilder
from layers.conv2d import Conv2d
from layers.flatten import Flatten
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.relu import ReLU


def digits(classes: int = 10, image: Sequence[int] = (1, 8, 8)) -> Graph:
    """Return three 3x3 convolutions and two fully connected layers: 62,250 parameters."""
    net = GraphBuilder(image)
    for name, channels in (("conv1", 32), ("conv2", 32)):
        net.add(name, Conv2d(channels, 3, padding=1))
        net.add(f"relu_{name}", ReLU())
    net.add("pool2", MaxPool(2, 2))
    net.add("conv3", Conv2d(64, 3, padding=1))
    net.add("relu_conv3", ReLU())
    net.add("pool3", MaxPool(2, 2))
    net.add("flatten", Flatten())
    net.add("fc4", Linear(128))
    net.add("relu_fc4", ReLU())
    net.add("fc5", Linear(classes, gain=1.0))
    return net.graph()
