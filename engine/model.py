"""A graph with its parameters on this rank."""

import hashlib
from collections.abc import Callable
from functools import partial

from comm.collectives import Collectives
from comm.comm_thread import CommandQueue
from engine.bucket import Bucket
from engine.graph import Graph
from engine.parameters import Parameters, padded_floats
from layers.layer import Array, Parameter

BUCKET_FLOATS = 1 << 16
"""Most floats of a bucket of several nodes: beyond it bytes cost more than messages do, and a bucket's first
members wait for the backward pass of its last."""


class Model:
    """The graph that this rank runs, and the parameters of each node by the node's name.

    Parameters
    ----------
    bucket_floats
        Neighbouring nodes share a bucket while they fit in; any number gives the same bits.
    """

    def __init__(
        self,
        graph: Graph,
        collectives: Collectives,
        queue: CommandQueue,
        *,
        bucket_floats: int = BUCKET_FLOATS,
    ):
        self.graph = graph
        described = {node.name: node.layer.parameters(*graph.input_shapes(node)) for node in graph}
        self.parameters = {name: Parameters(name, {}, None) for name in described}
        places = {name: place for place, name in enumerate(described)}
        for members in _bucketed(described, bucket_floats):
            sizes = {name: padded_floats(described[name]) for name in members}
            bucket = Bucket(
                members[0] if len(members) == 1 else f"{members[0]}..{members[-1]}",
                sum(sizes.values()),
                len(members),
                priority=places[members[0]],
                collectives=collectives,
                queue=queue,
            )
            start = 0
            for name, size in sizes.items():
                self.parameters[name] = Parameters(name, described[name], bucket, start)
                start += size

    def wait(self) -> None:
        """Return when all weights are those of the last step."""
        for parameters in self.parameters.values():
            parameters.wait()

    def draws(self, seed: int) -> list[Callable[[], None]]:
        """Return what draws each node's initial weights, the largest first; in any order, on any threads."""
        largest = sorted(self.parameters.values(), key=lambda parameters: -parameters.arrays()[0].size)
        return [partial(parameters.initialise, seed) for parameters in largest]

    def arrays(self) -> list[Array]:
        """Return the memory of all gradients and velocities."""
        return [array for parameters in self.parameters.values() for array in parameters.arrays()]

    def standard(self) -> dict[str, Array]:
        """Return copies of all weights in standard layout by name."""
        return {
            name: tensor
            for parameters in self.parameters.values()
            for name, tensor in parameters.standard().items()
        }

    def standard_velocities(self, *, keep: bool) -> dict[str, Array]:
        """Gather all velocities in standard layout by name (collective), for ranks that `keep` them."""
        return {
            name: tensor
            for parameters in self.parameters.values()
            for name, tensor in parameters.standard_velocities(keep=keep).items()
        }

    def restore(self, tensors: dict[str, Array]) -> None:
        """Overwrite weights and velocities with those of a checkpoint."""
        for parameters in self.parameters.values():
            parameters.restore(tensors)

    def weights_sha256(self) -> str:
        """Hash all weights: sorted by name, standard layout, little-endian float32.

        Independent of blocking, ranks and plan, so that two runs that agree have the same weights.
        """
        digest = hashlib.sha256()
        named = {f"{node}.{name}": (p, name) for node, p in self.parameters.items() for name in p.described}
        for full_name in sorted(named):
            parameters, name = named[full_name]
            parameters.digest_into(digest, name)
        return digest.hexdigest()


def _bucketed(described: dict[str, dict[str, Parameter]], bucket_floats: int) -> list[list[str]]:
    """Cut the nodes that have parameters into buckets, in their order; from the end, as backward comes."""
    buckets: list[list[str]] = []
    room = 0
    for name in reversed(described):
        if described[name]:
            size = padded_floats(described[name])
            if size > room:
                buckets.append([])
                room = bucket_floats
            buckets[-1].insert(0, name)
            room -= size
    return buckets
