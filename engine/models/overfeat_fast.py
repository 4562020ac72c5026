"""OverFeat-FAST, the fast network of Sermanet et al. 2014 (arXiv:1312.6229, table 1)."""

from collections.abc import Sequence

from engine.graph import Graph, GraphBuilder
from layers.conv2d import Conv2d
from layers.dropout import Dropout
from layers.flatten import Flatten
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.relu import ReLU

AFTER_DROPOUT = 1.0  # gain of a layer whose inputs dropout has scaled by 2: half that of the others


def overfeat_fast(classes: int = 1000, image: Sequence[int] = (3, 231, 231)) -> Graph:
    """Return the network for 3x231x231 images and 1,000 classes: 145,920,872 parameters."""
    net = GraphBuilder(image)
    convolutions = (
        ("conv1", Conv2d(96, 11, stride=4), True),
        ("conv2", Conv2d(256, 5), True),
        ("conv3", Conv2d(512, 3, padding=1), False),
        ("conv4", Conv2d(1024, 3, padding=1), False),
        ("conv5", Conv2d(1024, 3, padding=1), True),
    )
    for name, convolution, pooled in convolutions:
        net.add(name, convolution)
        net.add(f"relu_{name}", ReLU())
        if pooled:
            net.add(f"pool_{name}", MaxPool(2, 2))
    net.add("flatten", Flatten())
    for name, features, gain in (("fc6", 3072, 2.0), ("fc7", 4096, AFTER_DROPOUT)):
        net.add(name, Linear(features, gain=gain))
        net.add(f"relu_{name}", ReLU())
        net.add(f"drop_{name}", Dropout(0.5))
    net.add("fc8", Linear(classes, gain=AFTER_DROPOUT / 2))
    return net.graph()
