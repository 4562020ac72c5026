"""A layer whose weights the model gives, instead of random ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self, final

import numpy as np

from layers.layer import Array, Layer, Parameter, Shape
from layers.wrapped import WrappedLayer


@final
@dataclass(frozen=True, eq=False)
class Given(WrappedLayer):
    """A layer that begins with these weights, and keeps them unless it is trained.

    They are in checkpoints and hashes as others are. A layer that is not trained has no gradient, and none is
    computed for it: a first layer that whitens its input costs its forward pass alone.

    Each rank builds the model for itself. Weights that are computed there must have the same bits on all, and
    on every machine that shall end with the same hash: those of eigenvectors differ; keep them in a file.

    Parameters
    ----------
    layer
    values
        Of its parameters, by name, in standard layout: ``{"weight": ...}``. Those left out begin as usual.
    trainable : bool
        False: none of the layer's parameters is trained, those left out neither.
    """

    layer: Layer
    values: Mapping[str, Array] = field(repr=False)
    trainable: bool = False

    @property
    def inner(self) -> Layer:
        """The layer inside."""
        return self.layer

    def around(self, layer: Layer) -> Self:
        """Return another layer with the same weights."""
        return replace(self, layer=layer)

    def shard(self, parts: int) -> tuple[Self, ...]:
        """Refuse: the weights are those of the whole layer."""
        raise ValueError("a layer whose weights are given cannot be split")

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return that of the layer inside; ValueError where the values do not fit its parameters."""
        described = self.layer.parameters(*inputs)
        for name, value in self.values.items():
            if name not in described:
                raise ValueError(f"{name}: no such weights; must be {' or '.join(described) or 'none'}")
            if np.shape(value) != described[name].shape:
                raise ValueError(
                    f"{name}: values of shape {np.shape(value)} are given; must be {described[name].shape}"
                )
            if not np.isfinite(np.asarray(value, np.float32)).all():
                raise ValueError(f"{name}: not all values that are given are finite float32 numbers")
        return self.layer.output_shape(*inputs)

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """Return the parameters with what they begin with."""
        described = {}
        for name, parameter in self.layer.parameters(*inputs).items():
            given = self.values.get(name)
            described[name] = replace(
                parameter,
                given=parameter.given if given is None else np.ascontiguousarray(given, np.float32),
                rate_factor=parameter.rate_factor if self.trainable else 0.0,
            )
        return described


def changed_inside(layer: Layer, change: Callable[[Layer], Layer]) -> Layer:
    """Return a layer as a pass over the graph changes it; one whose weights are given keeps them."""
    if isinstance(layer, Given):
        return layer.around(changed_inside(layer.layer, change))
    return change(layer)
