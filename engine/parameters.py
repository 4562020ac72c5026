"""Parameters of one node, and how they are kept equal on all ranks."""

import hashlib
from collections.abc import Callable
from zlib import crc32

import numpy as np

from comm.collectives import Collectives
from comm.comm_thread import CommandQueue, Request
from engine.arrays import aligned_zeros
from layers.layer import Array, Parameter

Update = Callable[[Array, Array, Array], None]
"""``update(weights, gradients, velocity)`` of a strip."""

MOMENTUM = "momentum."
"""Prefix of the names of velocities in a checkpoint."""


class Parameters:
    """One node's weights and gradients, each flat in one buffer; this rank owns and updates its strips.

    A node without parameters has empty ones, and all calls return at once.

    The buffers are padded so that all strips are equal. Between `submit_update` and `wait` the
    communication thread writes the weights; between `submit_reduce` and then it writes the gradients.
    """

    def __init__(
        self, node: str, described: dict[str, Parameter], collectives: Collectives, queue: CommandQueue
    ):
        self.node, self.described = node, described
        self._collectives, self._queue = collectives, queue
        floats = sum(_size(parameter) for parameter in described.values())
        padded = collectives.tree.padded(floats)
        self._weights, self._gradients = aligned_zeros((padded,)), aligned_zeros((padded,))
        self._strips = collectives.tree.strips_of(collectives.communicator.rank, padded)
        self._velocities = tuple(aligned_zeros((strip.stop - strip.start,)) for strip in self._strips)
        self.weights, self.gradients = self._views(self._weights), self._views(self._gradients)
        self._pending: Request | None = None

    def _views(self, flat: Array) -> dict[str, Array]:
        views, start = {}, 0
        for name, parameter in self.described.items():
            stop = start + _size(parameter)
            views[name] = flat[start:stop].reshape(parameter.blocked)
            start = stop
        return views

    def submit_reduce(self) -> None:
        """Start summing the gradients over the ranks into the owned strips."""
        if self.described:
            self._queue.submit(lambda: self._collectives.part_reduce(self._gradients))

    def submit_update(self, update: Update) -> None:
        """Start the update of the owned strips and their broadcast.

        Only after backward_data: from here on the weights change under their readers.
        """
        if self.described:
            self._pending = self._queue.submit(lambda: self._update(update))

    def _update(self, update: Update) -> None:
        for strip, velocity in zip(self._strips, self._velocities, strict=True):
            update(self._weights[strip], self._gradients[strip], velocity)
        self._collectives.part_broadcast(self._weights)

    def wait(self) -> None:
        """Return when the weights are those of the last submitted step."""
        if self._pending is not None:
            self._pending.wait()
            self._pending = None

    def initialise(self, seed: int) -> None:
        """Draw the initial weights: a function of seed, node and parameter only."""
        for name, parameter in self.described.items():
            standard = np.zeros(parameter.shape, np.float32)
            if parameter.variance > 0:
                key = [seed, crc32(f"{self.node}.{name}".encode())]
                np.random.Generator(np.random.Philox(key=key)).standard_normal(dtype=np.float32, out=standard)
                standard *= np.float32(parameter.variance**0.5)
            parameter.pack(standard, self.weights[name])

    def arrays(self) -> list[Array]:
        """Return all memory held here but that of the weights."""
        return [self._gradients, *self._velocities]

    def standard(self) -> dict[str, Array]:
        """Return copies of the weights in standard layout, named ``node.parameter``."""
        return self._unpack(self.weights, "")

    def digest_into(self, digest: "hashlib._Hash", name: str) -> None:
        """Feed one parameter, standard layout and little-endian, to a hash."""
        digest.update(self.described[name].unpack(self.weights[name]).astype("<f4", copy=False).tobytes())

    def standard_velocities(self, *, keep: bool) -> dict[str, Array]:
        """Gather the velocities of all ranks (collective); names as in `standard`, behind MOMENTUM.

        Ranks that do not `keep` them get none, and are spared the way into standard layout.
        """
        if not self.described:
            return {}
        flat = aligned_zeros((self._weights.size,))
        for strip, velocity in zip(self._strips, self._velocities, strict=True):
            flat[strip] = velocity
        self._queue.submit(lambda: self._collectives.part_broadcast(flat)).wait()
        return self._unpack(self._views(flat), MOMENTUM) if keep else {}

    def restore(self, tensors: dict[str, Array]) -> None:
        """Overwrite weights and velocities with those of `standard` and `standard_velocities`."""
        flat = aligned_zeros((self._weights.size,))
        views = self._views(flat)
        for name, parameter in self.described.items():
            parameter.pack(tensors[f"{self.node}.{name}"], self.weights[name])
            parameter.pack(tensors[f"{MOMENTUM}{self.node}.{name}"], views[name])
        for strip, velocity in zip(self._strips, self._velocities, strict=True):
            velocity[:] = flat[strip]

    def _unpack(self, views: dict[str, Array], prefix: str) -> dict[str, Array]:
        return {
            f"{prefix}{self.node}.{name}": np.ascontiguousarray(parameter.unpack(views[name]))
            for name, parameter in self.described.items()
        }


def _size(parameter: Parameter) -> int:
    return int(np.prod(parameter.blocked))
