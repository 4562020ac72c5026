"""A graph with its parameters on this rank."""

import hashlib
from collections.abc import Callable
from functools import partial

from comm.collectives import Collectives
from comm.comm_thread import CommandQueue
from engine.graph import Graph
from engine.parameters import Parameters
from layers.layer import Array


class Model:
    """The graph that this rank runs, and the parameters of each node by the node's name."""

    def __init__(self, graph: Graph, collectives: Collectives, queue: CommandQueue):
        self.graph = graph
        self.parameters = {
            node.name: Parameters(
                node.name, node.layer.parameters(*graph.input_shapes(node)), collectives, queue
            )
            for node in graph
        }

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
