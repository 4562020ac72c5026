"""Parameters of one node, and how they are kept equal on all ranks."""

import hashlib
from zlib import crc32

import numpy as np

from comm.tree import STRIP_FLOATS
from engine.arrays import aligned_zeros
from engine.bucket import Bucket, Update
from layers.layer import Array, Parameter

MOMENTUM = "momentum."
"""Prefix of the names of velocities in a checkpoint."""


class Parameters:
    """One node's weights and gradients: its part of a bucket, from an offset on.

    A node without parameters has no bucket, and all calls return at once.

    Between `submit_update` and `wait` the communication thread writes the weights; between `submit_reduce`
    and then it writes the gradients.
    """

    def __init__(self, node: str, described: dict[str, Parameter], bucket: Bucket | None, start: int = 0):
        self.node, self.described = node, described
        self._bucket, self._start = bucket, start
        self.weights: dict[str, Array] = {}
        self.gradients: dict[str, Array] = {}
        if bucket is not None:
            self.weights, self.gradients = self._views(bucket.weights), self._views(bucket.gradients)

    def _views(self, flat: Array) -> dict[str, Array]:
        """See a bucket's buffer as this node's parameters."""
        views, start = {}, self._start
        for name, parameter in self.described.items():
            stop = start + _size(parameter)
            views[name] = flat[start:stop].reshape(parameter.blocked)
            start = stop
        return views

    def submit_reduce(self) -> None:
        """Start summing the gradients over the ranks into the owned strips."""
        if self._bucket is not None:
            self._bucket.submit_reduce()

    def submit_update(self, update: Update) -> None:
        """Start the update of the owned strips and their broadcast.

        Only after backward_data: from here on the weights change under their readers.
        """
        if self._bucket is not None:
            self._bucket.submit_update(update)

    def wait(self) -> None:
        """Return when the weights are those of the last submitted step."""
        if self._bucket is not None:
            self._bucket.wait()

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
        if self._bucket is None:
            return {}
        flat = self._bucket.gather_velocities()
        return self._unpack(self._views(flat), MOMENTUM) if keep else {}

    def restore(self, tensors: dict[str, Array]) -> None:
        """Overwrite weights and velocities with those of `standard` and `standard_velocities`."""
        if self._bucket is None:
            return
        flat = aligned_zeros((self._start + padded_floats(self.described),))
        views = self._views(flat)
        for name, parameter in self.described.items():
            parameter.pack(tensors[f"{self.node}.{name}"], self.weights[name])
            parameter.pack(tensors[f"{MOMENTUM}{self.node}.{name}"], views[name])
        self._bucket.restore_velocities(self._start, flat[self._start :])

    def _unpack(self, views: dict[str, Array], prefix: str) -> dict[str, Array]:
        return {
            f"{prefix}{self.node}.{name}": np.ascontiguousarray(parameter.unpack(views[name]))
            for name, parameter in self.described.items()
        }


def padded_floats(described: dict[str, Parameter]) -> int:
    """Return what a node takes of a bucket: whole cache lines, so that each node begins with one."""
    floats = sum(_size(parameter) for parameter in described.values())
    return -(-floats // STRIP_FLOATS) * STRIP_FLOATS


def _size(parameter: Parameter) -> int:
    return int(np.prod(parameter.blocked))
