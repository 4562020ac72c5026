"""A layer around another one: it is what that is, and does something beside or instead of its passes."""

from dataclasses import dataclass, field, replace
from typing import Self

from layers.layer import Halo, Layer, Parameter, Scratch, Shape


def unwrapped(layer: Layer) -> Layer:
    """Return the layer itself."""
    return unwrapped(layer.layer) if isinstance(layer, WrappedLayer) else layer


@dataclass(frozen=True)
class WrappedLayer(Layer):
    """Another layer in all it says; what its passes do is for the final class."""

    layer: Layer
    node: str
    outputs: int = field(init=False)
    reads_x: bool = field(init=False)
    reads_y: bool = field(init=False)
    in_place: bool = field(init=False)
    featurewise: bool = field(init=False)

    def __post_init__(self) -> None:
        for name in ("outputs", "reads_x", "reads_y", "in_place", "featurewise"):
            object.__setattr__(self, name, getattr(self.layer, name))

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the layer's."""
        return self.layer.output_shape(*inputs)

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """Return the layer's."""
        return self.layer.parameters(*inputs)

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return the layer's."""
        return self.layer.scratch(samples, leaves, threads, *inputs)

    def halo(self, *inputs: Shape) -> Halo:
        """Return the layer's."""
        return self.layer.halo(*inputs)

    def gradient_halo(self, *inputs: Shape) -> Halo:
        """Return the layer's."""
        return self.layer.gradient_halo(*inputs)

    def shard(self, parts: int) -> tuple[Self, ...]:
        """Return the shards of the layer, wrapped alike."""
        return tuple(replace(self, layer=layer) for layer in self.layer.shard(parts))

    def flops(self, *inputs: Shape) -> int:
        """Return the layer's."""
        return self.layer.flops(*inputs)
