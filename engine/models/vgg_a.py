"""VGG-A, the 11-layer network of Simonyan and Zisserman 2015 (arXiv:1409.1556, table 1, column A)."""

from collections.abc import Sequence

from engine.graph import Graph, GraphBuilder
from layers.conv2d import Conv2d
from layers.dropout import Dropout
from layers.flatten import Flatten
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.relu import ReLU

AFTER_DROPOUT = 1.0  # gain of a layer whose inputs dropout has scaled by 2: half that of the others
STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


def vgg_a(classes: int = 1000, image: Sequence[int] = (3, 224, 224)) -> Graph:
    """Return the network for 3x224x224 images and 1,000 classes: 132,863,336 parameters."""
    net = GraphBuilder(image)
    for stage, widths in enumerate(STAGES, start=1):
        for index, channels in enumerate(widths, start=1):
            net.add(f"conv{stage}_{index}", Conv2d(channels, 3, padding=1))
            net.add(f"relu{stage}_{index}", ReLU())
        net.add(f"pool{stage}", MaxPool(2, 2))
    net.add("flatten", Flatten())
    for name, gain in (("fc6", 2.0), ("fc7", AFTER_DROPOUT)):
        net.add(name, Linear(4096, gain=gain))
        net.add(f"relu_{name}", ReLU())
        net.add(f"drop_{name}", Dropout(0.5))
    net.add("fc8", Linear(classes, gain=AFTER_DROPOUT / 2))
    return net.graph()
