"""Tensors that are made when they are wanted: a checkpoint is written one tensor after the other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from engine.host.aligned_arrays import aligned_zeros
from layers.layer import Array, Shape


@dataclass(frozen=True)
class Held:
    """A tensor in standard layout, float32, whose values lie somewhere in another layout."""

    shape: Shape
    make: Callable[[], Array]
    """Returns it; each call does the work anew."""
    blocked: Array | None = None
    """The values as a parameter's kernels read them, where that is how they lie."""


Tensors = Mapping[str, Array | Held]


def made(tensor: Array | Held) -> Array:
    """Return a tensor itself."""
    return tensor.make() if isinstance(tensor, Held) else tensor


class Copy:
    """Memory on one rank for copies of tensors, taken again each time: new memory is slow at first.

    Parameters
    ----------
    keep
        Whether this rank keeps what it takes part in gathering.
    """

    def __init__(self, *, keep: bool):
        self.keep = keep
        self._rooms: dict[str, Array] = {}

    def room(self, name: str, shape: Shape) -> Array:
        """Return the array of this name and shape, whatever is in it; a new one where nothing is kept."""
        if not self.keep:
            return aligned_zeros(shape)
        found = self._rooms.get(name)
        if found is None:
            found = self._rooms[name] = aligned_zeros(shape)
        return found

    def of(self, name: str, array: Array) -> Array:
        """Return a copy, where it is kept; else the array itself."""
        if not self.keep:
            return array
        room = self.room(name, array.shape)
        np.copyto(room, array)
        return room
