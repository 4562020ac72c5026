"""The base of layers around a convolution: those fused with what is behind it, or with a fork in front."""

from dataclasses import dataclass, replace
from typing import Self

from layers.conv2d import Conv2d
from layers.layer import Layer
from layers.wrapped import WrappedLayer


@dataclass(frozen=True)
class WrappedConv2d(WrappedLayer):
    """A layer that computes what a convolution does, and more."""

    conv: Conv2d

    @property
    def inner(self) -> Layer:
        """The convolution."""
        return self.conv

    def around(self, layer: Layer) -> Self:
        """Return the same around another convolution."""
        assert isinstance(layer, Conv2d)
        return replace(self, conv=layer)
