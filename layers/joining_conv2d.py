"""A convolution that joins the gradients by all readers of its input while it stores its own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar, Self

from layers.conv2d import Conv2d
from layers.convolution.pointwise import Joined
from layers.kernels import add, relu
from layers.layer import Buffers, Context, Layer, Shape
from layers.work import BACKWARD_DATA
from layers.wrapped import WrappedLayer


@dataclass(frozen=True)
class JoiningConv2d(WrappedLayer):
    """A convolution whose dx is the sum of its own and of `Buffers.others`.

    It computes the same bits as the layers one by one, with fewer passes over memory. Models are written as
    plain layers; `engine.graph.passes.joins` puts it in their place.

    Parameters
    ----------
    conv : Conv2d
        One that `can_join`.
    rectifies : bool
        x is what a ReLU made, and dx the gradient before that.
    """

    conv: Conv2d
    rectifies: bool = False

    differs: ClassVar[Mapping[str, Any]] = {"joins": True}

    @property
    def inner(self) -> Layer:
        """The convolution."""
        return self.conv

    def around(self, layer: Layer) -> Self:
        """Return the same around another convolution."""
        assert isinstance(layer, Conv2d)
        return replace(self, conv=layer)

    def elementwise_floats(self, direction: str, *inputs: Shape) -> float:
        """Return the floats moved beside the convolution's: the other gradient, and what decides."""
        joined = (1.0 + self.rectifies) * prod(inputs[0]) if direction == BACKWARD_DATA else 0.0
        return self.conv.elementwise_floats(direction, *inputs) + joined

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx; only its own where there are no others, as when a layer is measured alone."""
        (x,), (dx,), others = at.x, at.dx, at.others
        value = x if self.rectifies else None
        if others is None:
            self.conv.backward_data(at, run)
        elif dx.strides == others.strides and (value is None or dx.strides == value.strides):
            self.conv.data_gradient(at, run, at.dy[0], Joined(others, value))
        else:  # a halo parts the rows of some
            self.conv.backward_data(at, run)
            add.add_all(run.threads, (dx, others), dx)
            if value is not None:
                relu.backward_data(run.threads, value, dx, dx)
