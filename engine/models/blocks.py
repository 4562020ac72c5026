"""Runs of layers that several networks are made of."""

from engine.graph import GraphBuilder
from layers.batch_norm import BatchNorm
from layers.layer import Layer
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
