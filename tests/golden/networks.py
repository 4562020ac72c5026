"""Networks for shapes that the small ones of `tests.engine.graphs` lack."""

import numpy as np

from engine.graph import Graph, GraphBuilder
from layers.activations import GELU, HardSigmoid, HardSwish, ReLU6, SiLU
from layers.adaptive_avg_pool import AdaptiveAvgPool
from layers.avg_pool import AvgPool
from layers.concat import Concat
from layers.conv2d import Conv2d
from layers.depthwise_conv2d import DepthwiseConv2d
from layers.dropout import Dropout
from layers.flatten import Flatten
from layers.given import Given
from layers.global_avg_pool import GlobalAvgPool
from layers.grouped_conv2d import GroupedConv2d
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.multiply import Multiply
from layers.relu import ReLU
from layers.scale import Scale
from layers.sigmoid import Sigmoid
from tests.toy_layer import Scale as ToyScale


def with_state() -> Graph:
    """Keep a running mean in a layer, and pool with windows that overlap."""
    net = GraphBuilder((2, 9, 7))
    net.add("conv1", Conv2d(17, 3, padding=1))
    net.add("scale1", ToyScale())
    net.add("relu1", ReLU())
    net.add("pool1", MaxPool(3, 2, 1))
    net.add("conv2", Conv2d(20, 1))
    net.add("pool2", AvgPool((3, 2), 2))
    net.add("flatten", Flatten())
    net.add("fc3", Linear(5, gain=1.0))
    return net.graph()


def first_layers() -> Graph:
    """First layers as networks for photographs have them, of 3 channels, 1 and 2, strided and pooled."""
    net = GraphBuilder((3, 37, 33))
    net.add("conv1", Conv2d(32, 11, stride=4, padding=2), "input")
    net.add("relu1", ReLU())
    net.add("conv2", Conv2d(32, 7, stride=4, padding=3), "input")
    net.add("relu2", ReLU())
    net.add("pool2", MaxPool(2, 1, 0), "relu2")
    net.add("conv3", Conv2d(2, 3, padding=1), "relu1")
    net.add("conv4", Conv2d(33, 3, padding=1))
    net.add("relu4", ReLU())
    net.add("pool4", MaxPool(2, 2))
    net.add("flatten4", Flatten())
    net.add("flatten2", Flatten(), "pool2")
    net.add("concat", Concat(), "flatten4", "flatten2")
    net.add("fc5", Linear(6, gain=1.0))
    return net.graph()


def pooled_first() -> Graph:
    """Begin with a layer that is fused with ReLU and pooling, wider than a chunk of its rows."""
    net = GraphBuilder((3, 12, 140))
    net.add("conv1", Conv2d(32, 3, padding=1))
    net.add("relu1", ReLU())
    net.add("pool1", MaxPool(2, 2))
    net.add("conv2", Conv2d(7, (5, 20), stride=2, padding=(2, 3)))
    net.add("sigmoid2", Sigmoid())
    net.add("flatten", Flatten())
    net.add("drop", Dropout(0.25))
    net.add("fc3", Linear(3, gain=1.0))
    return net.graph()


def winograd() -> Graph:
    """All passes by Winograd, on maps that the tiles do not divide, with more channels than a block has."""
    net = GraphBuilder((16, 13, 14))
    net.add("conv1", Conv2d(160, 3, padding=1))
    net.add("relu1", ReLU())
    net.add("conv2", Conv2d(80, 3, padding=1))
    net.add("relu2", ReLU())
    net.add("pool2", MaxPool(2, 2))
    net.add("conv3", Conv2d(96, 5, padding=2))
    net.add("relu3", ReLU())
    net.add("pool3", MaxPool(2, 2))
    net.add("flatten", Flatten())
    net.add("fc4", Linear(4, gain=1.0))
    return net.graph()


def large() -> Graph:
    """Matrix products of several panels of samples, chunks of outputs and blocks of features."""
    net = GraphBuilder((250,))
    net.add("fc1", Linear(1100))
    net.add("relu1", ReLU())
    net.add("fc2", Linear(1030))
    net.add("sigmoid2", Sigmoid())
    net.add("fc3", Linear(40, gain=1.0))
    return net.graph()


def pointwise() -> Graph:
    """1x1 convolutions, strided and not, with many channels, and a strided 5x5 one."""
    net = GraphBuilder((64, 14, 14))
    net.add("conv1", Conv2d(128, 1))
    net.add("relu1", ReLU())
    net.add("conv2", Conv2d(256, 1, stride=2))
    net.add("relu2", ReLU())
    net.add("conv3", Conv2d(64, 5, stride=2, padding=2))
    net.add("relu3", ReLU())
    net.add("flatten", Flatten())
    net.add("fc4", Linear(4, gain=1.0))
    return net.graph()


def many_channels() -> Graph:
    """Winograd convolutions with more weights than one worker's cache holds."""
    net = GraphBuilder((272, 6, 8))
    net.add("conv1", Conv2d(256, 3, padding=1))
    net.add("relu1", ReLU())
    net.add("conv2", Conv2d(272, 3, padding=1))
    net.add("pool2", AvgPool())
    net.add("flatten", Flatten())
    net.add("fc3", Linear(3, gain=1.0))
    return net.graph()


def squeezed() -> Graph:
    """Squeeze and excitation, by vectors and by images of one pixel, and pooling to a size."""
    net = GraphBuilder((3, 17, 15))
    net.add("conv1", Conv2d(20, 3, padding=1))
    net.add("pool1", MaxPool(3, 2, ceil_mode=True))
    net.add("mean2", GlobalAvgPool())
    net.add("fc2", Linear(8))
    net.add("relu2", ReLU())
    net.add("fc3", Linear(20))
    net.add("sigmoid3", Sigmoid())
    net.add("scale3", Scale(), "pool1", "sigmoid3")
    net.add("mean4", AdaptiveAvgPool())
    net.add("conv4", Conv2d(20, 1))
    net.add("scale4", Scale(), "scale3", "conv4")
    net.add("pool5", AdaptiveAvgPool((3, 2)))
    net.add("flatten", Flatten())
    net.add("fc6", Linear(4, gain=1.0))
    return net.graph()


def activated() -> Graph:
    """Use each activation, on images or on vectors, with lanes to spare."""
    net = GraphBuilder((3, 9, 8))
    for number, layer in enumerate((GELU(), SiLU(), HardSwish(), ReLU6()), start=1):
        net.add(f"conv{number}", Conv2d(18, 3, padding=1))
        net.add(f"activation{number}", layer)
    net.add("flatten", Flatten())
    for number, layer in enumerate((GELU(), HardSigmoid()), start=5):
        net.add(f"fc{number}", Linear(20))
        net.add(f"activation{number}", layer)
    net.add("fc7", Linear(4, gain=1.0))
    return net.graph()


def identical() -> Graph:
    """Begin convolutions as the identity, one of them split by a plan, and make the logits small."""
    net = GraphBuilder((3, 9, 7))
    net.add("conv1", Conv2d(40, 3, padding=1, identity=True, gain=1 / 3))
    net.add("relu1", ReLU())
    net.add("conv2", Conv2d(32, 3, padding=1, identity=True, bias=False))
    net.add("relu2", ReLU())
    net.add("pool2", AvgPool())
    net.add("flatten", Flatten())
    net.add("fc3", Linear(4, gain=1.0))
    net.add("scale3", Multiply(1 / 9))
    return net.graph()


def separable() -> Graph:
    """Depthwise convolutions of several kernels and strides, one dilated, and 1x1 ones between them."""
    net = GraphBuilder((3, 21, 18))
    net.add("depth1", DepthwiseConv2d(3, padding=1))
    for number, (kernel, stride, dilation) in enumerate(
        ((3, 2, 1), (5, 1, 1), (3, 1, 2), (5, 2, 1)), start=2
    ):
        net.add(f"point{number}", Conv2d(24, 1, bias=False))
        net.add(f"relu{number}", ReLU6())
        padding = kernel // 2 * dilation
        net.add(f"depth{number}", DepthwiseConv2d(kernel, stride, padding, dilation, bias=number != 3))
    net.add("mean", GlobalAvgPool())
    net.add("fc6", Linear(4, gain=1.0))
    return net.graph()


def grouped() -> Graph:
    """Convolve in groups: whole vectors, by Winograd and not, narrow ones, all at once; then dilated."""
    net = GraphBuilder((16, 13, 12))
    net.add("conv1", GroupedConv2d(128, 3, 2, padding=1))
    net.add("relu1", ReLU())
    net.add("conv2", GroupedConv2d(128, 3, 2, padding=1, bias=False))
    net.add("relu2", ReLU())
    net.add("conv3", GroupedConv2d(64, 3, 32, 2, 1))
    net.add("relu3", ReLU())
    net.add("conv4", GroupedConv2d(36, 1, 4))
    net.add("relu4", ReLU())
    net.add("conv5", Conv2d(20, 3, 2, 3, dilation=3))
    net.add("mean", GlobalAvgPool())
    net.add("fc6", Linear(4, gain=1.0))
    return net.graph()


def whitened() -> Graph:
    """Begin with a convolution whose weights are given and stay."""
    net = GraphBuilder((3, 12, 11))
    values = np.linspace(-0.5, 0.5, 24 * 3 * 2 * 2, dtype=np.float32).reshape(24, 3, 2, 2)
    net.add("whiten1", Given(Conv2d(24, 2), {"weight": values}))
    net.add("gelu1", GELU())
    net.add("conv2", Conv2d(33, 3))
    net.add("pool2", MaxPool(2, 2))
    net.add("flatten", Flatten())
    net.add("fc3", Linear(4, gain=1.0))
    return net.graph()
