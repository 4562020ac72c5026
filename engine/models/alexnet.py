"""AlexNet in one column: Krizhevsky 2014 (arXiv:1404.5997), as torchvision has it."""

from collections.abc import Sequence

from engine.graph import Graph, GraphBuilder
from engine.models.blocks import add_convolution
from layers.conv2d import Conv2d
from layers.dropout import Dropout
from layers.flatten import Flatten
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.relu import ReLU

AFTER_DROPOUT = 1.0  # gain of a layer whose inputs dropout has scaled by 2: half that of the others


def alexnet(classes: int = 1000, image: Sequence[int] = (3, 224, 224)) -> Graph:
    """Return the network for 3x224x224 images and 1,000 classes: 61,100,840 parameters."""
    net = GraphBuilder(image)
    convolutions = (
        ("1", Conv2d(64, 11, stride=4, padding=2), True),
        ("2", Conv2d(192, 5, padding=2), True),
        ("3", Conv2d(384, 3, padding=1), False),
        ("4", Conv2d(256, 3, padding=1), False),
        ("5", Conv2d(256, 3, padding=1), True),
    )
    for name, convolution, pooled in convolutions:
        add_convolution(net, name, convolution, norm=None)
        if pooled:
            net.add(f"pool{name}", MaxPool(3, 2))
    net.add("flatten", Flatten())
    for name in ("fc6", "fc7"):
        net.add(f"drop_{name}", Dropout(0.5))
        net.add(name, Linear(4096, gain=AFTER_DROPOUT))
        net.add(f"relu_{name}", ReLU())
    net.add("fc8", Linear(classes, gain=1.0))
    return net.graph()
