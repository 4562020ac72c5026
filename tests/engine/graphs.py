"""Small graphs that use every layer, among them residual adds and concatenations."""

from engine.graph import Graph, GraphBuilder
from layers.add import Add
from layers.avg_pool import AvgPool
from layers.batch_norm import BatchNorm
from layers.concat import Concat
from layers.conv2d import Conv2d
from layers.dropout import Dropout
from layers.flatten import Flatten
from layers.group_norm import GroupNorm
from layers.layer_norm import LayerNorm
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.relu import ReLU
from layers.sigmoid import Sigmoid


def perceptron() -> Graph:
    net = GraphBuilder((12,))
    net.add("fc1", Linear(20))
    net.add("relu1", ReLU())
    net.add("fc2", Linear(17))
    net.add("sigmoid2", Sigmoid())
    net.add("fc3", Linear(5, gain=1.0))
    return net.graph()


def chain() -> Graph:
    net = GraphBuilder((3, 9, 7))
    net.add("conv1", Conv2d(18, 3, padding=1))
    net.add("relu1", ReLU())
    net.add("pool1", MaxPool(2, 2))
    net.add("conv2", Conv2d(8, (2, 3), stride=2, padding=(1, 0)))
    net.add("relu2", ReLU())
    net.add("flatten", Flatten())
    net.add("fc3", Linear(6, gain=1.0))
    return net.graph()


def residual() -> Graph:
    """Two blocks with a shortcut, the second one strided with a projection, as in residual networks."""
    net = GraphBuilder((2, 8, 8))
    net.add("conv1", Conv2d(16, 3, padding=1))
    stem = net.add("relu1", ReLU())
    net.add("conv2", Conv2d(16, 3, padding=1), stem)
    net.add("relu2", ReLU())
    net.add("conv3", Conv2d(16, 3, padding=1))
    net.add("add3", Add(), "conv3", stem)
    block = net.add("relu3", ReLU())
    net.add("conv4", Conv2d(24, 3, stride=2, padding=1), block)
    net.add("project", Conv2d(24, 1, stride=2), block)
    net.add("add4", Add(), "conv4", "project")
    net.add("relu4", ReLU())
    net.add("pool", AvgPool())
    net.add("flatten", Flatten())
    net.add("fc5", Linear(4, gain=1.0))
    return net.graph()


def branches() -> Graph:
    """Parallel convolutions whose outputs are concatenated, as in Inception; the input has two readers."""
    net = GraphBuilder((3, 6, 6))
    net.add("conv1x1", Conv2d(5, 1), "input")
    net.add("conv3x3", Conv2d(7, 3, padding=1), "input")
    net.add("concat", Concat(), "conv1x1", "conv3x3")
    trunk = net.add("relu", ReLU())
    net.add("pool", MaxPool(3, 1, padding=1), trunk)
    net.add("sum", Add(), "pool", trunk)
    net.add("flatten", Flatten())
    net.add("fc", Linear(3, gain=1.0))
    return net.graph()


def normed(groups: int | None = None) -> Graph:
    """Normalise behind each convolution of a residual block with a projection, and vectors at the end."""
    net = GraphBuilder((2, 8, 8))
    net.add("conv1", Conv2d(16, 3, padding=1))
    net.add("norm1", BatchNorm(groups))
    stem = net.add("relu1", ReLU())
    net.add("conv2", Conv2d(24, 3, stride=2, padding=1), stem)
    net.add("norm2", BatchNorm(groups, momentum=0.3, scaled=False))
    net.add("project", Conv2d(24, 1, stride=2), stem)
    net.add("norm3", BatchNorm(groups, epsilon=1e-3, initial_scale=0.5))
    net.add("add3", Add(), "norm2", "norm3")
    net.add("relu3", ReLU())
    net.add("pool", AvgPool())
    net.add("flatten", Flatten())
    net.add("fc4", Linear(20))
    net.add("norm4", BatchNorm(groups))
    net.add("relu4", ReLU())
    net.add("fc5", Linear(4, gain=1.0))
    return net.graph()


def bottlenecks(groups: int | None = None) -> Graph:
    """Two blocks that begin with a 1x1 convolution: one with a projection, one with the value itself."""
    net = GraphBuilder((2, 6, 6))
    net.add("conv1", Conv2d(16, 3, padding=1, bias=False))
    net.add("norm1", BatchNorm(groups))
    value = net.add("relu1", ReLU())
    for name in ("2", "3"):
        net.add(f"first{name}", Conv2d(16, 1, bias=False), value)
        net.add(f"norm_first{name}", BatchNorm(groups))
        net.add(f"relu_first{name}", ReLU())
        net.add(f"middle{name}", Conv2d(16, 3, padding=1, bias=False))
        net.add(f"norm_middle{name}", BatchNorm(groups))
        net.add(f"relu_middle{name}", ReLU())
        net.add(f"last{name}", Conv2d(64, 1))
        branch = net.add(f"norm_last{name}", BatchNorm(groups, initial_scale=0.5))
        if name == "2":
            net.add("project", Conv2d(64, 1, bias=False), value)
            value = net.add("norm_project", BatchNorm(groups))
        net.add(f"add{name}", Add(), branch, value)
        value = net.add(f"relu{name}", ReLU())
    net.add("pool", AvgPool())
    net.add("flatten", Flatten())
    net.add("fc4", Linear(4, gain=1.0))
    return net.graph()


def three_readers() -> Graph:
    """Read a value three times; the first reader is fused with a sum behind the two others."""
    net = GraphBuilder((3, 6, 6))
    stem = net.add("stem", Conv2d(32, 3, padding=1))
    norm = net.add("norm", BatchNorm(), stem)
    net.add("one", Conv2d(32, 3, padding=1), stem)
    net.add("other", Conv2d(32, 3, padding=1), stem)
    net.add("both", Add(), "one", "other")
    net.add("sum", Add(), norm, "both")
    net.add("relu", ReLU())
    net.add("pool", AvgPool())
    net.add("flatten", Flatten())
    net.add("fc", Linear(3, gain=1.0))
    return net.graph()


def normed_samples() -> Graph:
    """Normalise within samples: groups of channels that blocks do not hold, and vectors."""
    net = GraphBuilder((2, 6, 5))
    net.add("conv1", Conv2d(40, 3, padding=1))
    net.add("norm1", GroupNorm(4))
    net.add("relu1", ReLU())
    net.add("flatten", Flatten())
    net.add("fc2", Linear(37))
    net.add("norm2", LayerNorm())
    net.add("relu2", ReLU())
    net.add("fc3", Linear(4, gain=1.0))
    return net.graph()


def normed_split() -> Graph:
    """Normalise between convolutions that a plan may split, and behind a vector of one."""
    net = GraphBuilder((3, 6, 6))
    net.add("conv1", Conv2d(64, 3, padding=1))
    net.add("norm1", BatchNorm())
    net.add("relu1", ReLU())
    net.add("conv2", Conv2d(64, 3, padding=1))
    net.add("norm2", BatchNorm(groups=2))
    net.add("flatten", Flatten())
    net.add("fc3", Linear(128))
    net.add("norm3", BatchNorm())
    net.add("relu3", ReLU())
    net.add("fc4", Linear(5, gain=1.0))
    return net.graph()


def with_dropout() -> Graph:
    net = GraphBuilder((3, 6, 6))
    net.add("conv1", Conv2d(8, 3, padding=1))
    net.add("relu1", ReLU())
    net.add("drop1", Dropout(0.3))
    net.add("flatten", Flatten())
    net.add("fc2", Linear(10))
    net.add("relu2", ReLU())
    net.add("drop2", Dropout(0.5))
    net.add("fc3", Linear(3, gain=1.0))
    return net.graph()


def wide() -> Graph:
    """Fully connected layers that a plan may split, with features left over, dropout and a shortcut."""
    net = GraphBuilder((12,))
    net.add("fc1", Linear(256))
    net.add("relu1", ReLU())
    trunk = net.add("drop1", Dropout(0.4))
    net.add("fc2", Linear(250), trunk)
    net.add("fc3", Linear(250), trunk)
    net.add("add3", Add(), "fc2", "fc3")
    net.add("sigmoid3", Sigmoid())
    net.add("fc4", Linear(70, gain=1.0))
    return net.graph()


def mixed() -> Graph:
    """Convolutions with a shortcut and without, then layers that a plan may split."""
    net = GraphBuilder((3, 8, 8))
    net.add("conv1", Conv2d(16, 3, padding=1))
    stem = net.add("relu1", ReLU())
    net.add("conv2", Conv2d(16, 3, padding=1), stem)
    net.add("add2", Add(), "conv2", stem)
    net.add("conv3", Conv2d(24, 3, padding=1))
    net.add("relu3", ReLU())
    net.add("pool3", MaxPool(2, 2))
    net.add("flatten", Flatten())
    net.add("fc4", Linear(256))
    net.add("relu4", ReLU())
    net.add("drop4", Dropout(0.5))
    net.add("fc5", Linear(128))
    net.add("relu5", ReLU())
    net.add("fc6", Linear(10, gain=1.0))
    return net.graph()


def convolutional() -> Graph:
    """Convolutions that a plan may split: Winograd and direct ones, odd maps, a shortcut, pools, dropout."""
    net = GraphBuilder((3, 11, 9))
    net.add("conv1", Conv2d(64, 3, padding=1))
    net.add("relu1", ReLU())
    net.add("conv2", Conv2d(64, 3, padding=1))
    net.add("relu2", ReLU())
    trunk = net.add("pool2", MaxPool(2, 2))
    net.add("conv3", Conv2d(64, 5, padding=2), trunk)
    net.add("add3", Add(), "conv3", trunk)
    net.add("relu3", ReLU())
    net.add("drop3", Dropout(0.3))
    net.add("conv4", Conv2d(96, (3, 2), stride=2, padding=(1, 0)))
    net.add("relu4", ReLU())
    net.add("conv5", Conv2d(128, 1))
    net.add("pool5", AvgPool(2))
    net.add("flatten", Flatten())
    net.add("fc6", Linear(128))
    net.add("relu6", ReLU())
    net.add("fc7", Linear(10, gain=1.0))
    return net.graph()


GRAPHS = {
    "perceptron": perceptron,
    "chain": chain,
    "residual": residual,
    "branches": branches,
    "normed": normed,
    "bottlenecks": bottlenecks,
    "normed_samples": normed_samples,
}
