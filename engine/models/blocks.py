"""Runs of layers that several networks are made of."""

from engine.graph import GraphBuilder
from layers.batch_norm import BatchNorm
from layers.conv2d import Conv2d
from layers.relu import ReLU


def add_convolution(
    net: GraphBuilder,
    name: str,
    convolution: Conv2d,
    *inputs: str,
    norm: bool = True,
    relu: bool = True,
    initial_scale: float = 1.0,
) -> str:
    """Add a convolution with a normalisation and ReLU behind it; return the name of what comes out.

    They are called conv, norm and relu with `name` behind.
    """
    last = net.add(f"conv{name}", convolution, *inputs)
    if norm:
        last = net.add(f"norm{name}", BatchNorm(initial_scale=initial_scale))
    return net.add(f"relu{name}", ReLU()) if relu else last
