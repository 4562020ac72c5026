"""Tensors that are made when they are wanted: a checkpoint is written one tensor after the other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from layers.layer import Array, Shape


@dataclass(frozen=True)
class Held:
    """A tensor in standard layout, float32, whose values lie somewhere in another layout."""

    shape: Shape
    make: Callable[[], Array]
    """Returns it; each call does the work anew."""


Tensors = Mapping[str, Array | Held]


def made(tensor: Array | Held) -> Array:
    """Return a tensor itself."""
    return tensor.make() if isinstance(tensor, Held) else tensor
