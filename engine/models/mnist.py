"""A small convolutional network for 28x28 grey images: MNIST, Fashion-MNIST, EMNIST."""

from collections.abc import Sequence

from engine.graph import Graph, GraphBuilder
from layers.conv2d import Conv2d
from layers.dropout import Dropout
from layers.flatten import Flatten
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.relu import ReLU


def mnist(classes: int = 10, image: Sequence[int] = (1, 28, 28)) -> Graph:
    """Return LeNet-5's two 5x5 convolutions with pooling, wider, and two fully connected layers.

    LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.B; ReLU, maxima
    and dropout in place of its sigmoids, averages and sparse connections.
    """
    net = GraphBuilder(image)
    for name, channels in (("1", 32), ("2", 64)):
        net.add(f"conv{name}", Conv2d(channels, 5, padding=2))
        net.add(f"relu{name}", ReLU())
        net.add(f"pool{name}", MaxPool(2, 2))
    net.add("flatten", Flatten())
    net.add("fc3", Linear(256))
    net.add("relu3", ReLU())
    net.add("drop", Dropout(0.3))
    net.add("fc4", Linear(classes, gain=1.0))
    return net.graph()
