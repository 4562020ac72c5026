"""Runs of layers that several networks are made of."""

from engine.graph import GraphBuilder
from layers.add import Add
from layers.batch_norm import BatchNorm
from layers.conv2d import Conv2d
from layers.layer import Layer
from layers.max_pool import MaxPool
from layers.relu import ReLU


def add_convolution(
    net: GraphBuilder,
    name: str,
    convolution: Layer,
    *inputs: str,
    norm: BatchNorm | None = BatchNorm(),  # noqa: B008 -- it is immutable
    activation: Layer | None = ReLU(),  # noqa: B008
) -> str:
    """Add a convolution, a normalisation and an activation; return the name of what comes out.

    They are called conv, norm and relu with `name` behind.
    """
    last = net.add(f"conv{name}", convolution, *inputs)
    if norm is not None:
        last = net.add(f"norm{name}", norm)
    return last if activation is None else net.add(f"relu{name}", activation)


def add_pooled_stage(net: GraphBuilder, stage: int, channels: int, *, is_residual: bool) -> None:
    """Add a 3x3 convolution with pooling to half the size, and a residual block of two more behind it."""
    add_convolution(net, str(stage), Conv2d(channels, 3, padding=1, bias=False))
    pooled = net.add(f"pool{stage}", MaxPool(2, 2))
    if is_residual:
        made = pooled
        for index in (1, 2):
            made = add_convolution(net, f"{stage}_{index}", Conv2d(channels, 3, padding=1, bias=False))
        net.add(f"add{stage}", Add(), made, pooled)
