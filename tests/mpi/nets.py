"""A small network for runs under MPI that has what a run must not lose: state, norms, a residual block."""

from engine.graph import Graph, GraphBuilder
from layers.add import Add
from layers.batch_norm import BatchNorm
from layers.conv2d import Conv2d
from layers.global_avg_pool import GlobalAvgPool
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.relu import ReLU


def normed() -> Graph:
    """Return a residual network for 8x8 grey digits."""
    net = GraphBuilder((1, 8, 8))
    net.add("conv1", Conv2d(16, 3, padding=1, bias=False))
    net.add("norm1", BatchNorm())
    net.add("relu1", ReLU())
    pooled = net.add("pool1", MaxPool(2, 2))
    net.add("conv2", Conv2d(16, 3, padding=1, bias=False))
    made = net.add("norm2", BatchNorm())
    net.add("add2", Add(), made, pooled)
    net.add("relu2", ReLU())
    net.add("pool", GlobalAvgPool())
    net.add("fc", Linear(10, gain=1.0))
    return net.graph()
