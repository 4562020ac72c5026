"""The base of layers around another one: timing, fusion, exchanges, prices.

A wrapper says of itself what the layer inside says, member by member, and changes only what its final class
writes down. A member that is added to `Layer` has to be forwarded here: `tests/layers/test_wrapped.py` fails
until it is.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from layers.layer import Array, Buffers, Context, Halo, Layer, Parameter, Scratch, Shape, State
from layers.onnx_form import OnnxForm
from layers.work import Extents

ATTRIBUTES = ("outputs", "reads_x", "reads_y", "in_place", "joins", "shared_gradients", "featurewise")
"""Members of `Layer` that are values, not methods."""


def unwrapped(layer: Layer) -> Layer:
    """Return the layer inside all wrappers that only watch it."""
    return unwrapped(layer.layer) if isinstance(layer, WatchedLayer) else layer


@dataclass(frozen=True)
class WrappedLayer(Layer):
    """A layer that answers as the one inside does."""

    outputs: int = field(init=False, repr=False, compare=False)
    reads_x: bool = field(init=False, repr=False, compare=False)
    reads_y: bool = field(init=False, repr=False, compare=False)
    in_place: bool = field(init=False, repr=False, compare=False)
    joins: bool = field(init=False, repr=False, compare=False)
    shared_gradients: tuple[tuple[int, int], ...] = field(init=False, repr=False, compare=False)
    featurewise: bool = field(init=False, repr=False, compare=False)

    differs: ClassVar[Mapping[str, Any]] = {}
    """Attributes in which a class is not as the layer inside."""

    def __post_init__(self) -> None:
        for name in ATTRIBUTES:
            object.__setattr__(self, name, self.differs.get(name, getattr(self.inner, name)))

    @property
    @abstractmethod
    def inner(self) -> Layer:
        """The layer inside."""

    @abstractmethod
    def around(self, layer: Layer) -> Self:
        """Return a wrapper like this one around another layer."""

    def inner_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        """Return what the layer inside reads, given what this one does."""
        return inputs

    def output_shape(self, *inputs: Shape) -> Shape:
        """Forward to the layer inside."""
        return self.inner.output_shape(*self.inner_shapes(*inputs))

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """Forward to the layer inside."""
        return self.inner.parameters(*self.inner_shapes(*inputs))

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Forward to the layer inside."""
        return self.inner.scratch(samples, leaves, threads, *self.inner_shapes(*inputs))

    def halo(self, *inputs: Shape) -> Halo:
        """Forward to the layer inside."""
        return self.inner.halo(*self.inner_shapes(*inputs))

    def gradient_halo(self, *inputs: Shape) -> Halo:
        """Forward to the layer inside."""
        return self.inner.gradient_halo(*self.inner_shapes(*inputs))

    def input_lanes(self, *inputs: Shape) -> int:
        """Forward to the layer inside."""
        return self.inner.input_lanes(*self.inner_shapes(*inputs))

    def shard(self, parts: int) -> tuple[Self, ...]:
        """Return the shards of the layer inside, each in a wrapper like this one."""
        return tuple(map(self.around, self.inner.shard(parts)))

    def state(self, *inputs: Shape) -> dict[str, State]:
        """Forward to the layer inside."""
        return self.inner.state(*self.inner_shapes(*inputs))

    def leaf_values(self, *inputs: Shape) -> dict[str, Shape]:
        """Forward to the layer inside."""
        return self.inner.leaf_values(*self.inner_shapes(*inputs))

    def update_state(
        self, state: dict[str, Array], leaf_values: Mapping[str, NDArray[np.float64]], step: int
    ) -> None:
        """Forward to the layer inside."""
        self.inner.update_state(state, leaf_values, step)

    def leaves_together(self, leaves: int) -> int:
        """Forward to the layer inside."""
        return self.inner.leaves_together(leaves)

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Forward to the layer inside."""
        return self.inner.onnx(*self.inner_shapes(*inputs))

    def extents(self, *inputs: Shape) -> Extents | None:
        """Forward to the layer inside."""
        return self.inner.extents(*self.inner_shapes(*inputs))

    def flops(self, *inputs: Shape) -> int:
        """Forward to the layer inside."""
        return self.inner.flops(*self.inner_shapes(*inputs))

    def is_winograd(self, direction: str, samples_per_leaf: int, *inputs: Shape) -> bool:
        """Forward to the layer inside."""
        return self.inner.is_winograd(direction, samples_per_leaf, *self.inner_shapes(*inputs))

    def executed_flops(self, direction: str, samples: int, leaves: int, *inputs: Shape) -> int:
        """Forward to the layer inside."""
        return self.inner.executed_flops(direction, samples, leaves, *self.inner_shapes(*inputs))

    def elementwise_floats(self, direction: str, *inputs: Shape) -> float:
        """Forward to the layer inside."""
        return self.inner.elementwise_floats(direction, *self.inner_shapes(*inputs))

    def cost_key(self) -> str:
        """Forward to the layer inside."""
        return self.inner.cost_key()

    def forward(self, at: Buffers, run: Context) -> None:
        """Forward to the layer inside."""
        self.inner.forward(at, run)

    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Forward to the layer inside."""
        self.inner.backward_weights(at, run)

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Forward to the layer inside."""
        self.inner.backward_data(at, run)


Kind = TypeVar("Kind", bound=Layer)


def find_inside(layer: Layer, kind: type[Kind]) -> Kind | None:
    """Return the first layer of a kind on the way inside; None where there is none."""
    while not isinstance(layer, kind) and isinstance(layer, WrappedLayer):
        layer = layer.inner
    return layer if isinstance(layer, kind) else None


@dataclass(frozen=True)
class WatchedLayer(WrappedLayer):
    """A wrapper that does something beside the passes of a node's layer, or instead of them."""

    layer: Layer
    node: str

    @property
    def inner(self) -> Layer:
        """The layer inside."""
        return self.layer

    def around(self, layer: Layer) -> Self:
        """Return a wrapper like this one around another layer."""
        return replace(self, layer=layer)
