"""Every array of one rank's steps: planned from the graph, allocated once."""

from collections.abc import Callable
from dataclasses import replace
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from comm.grid import Grid
from comm.tree import ceil_div
from engine.data.loader import Batch
from engine.graph import INPUT, Graph, Node, Sharding
from engine.host.aligned_arrays import aligned_zeros
from engine.training.layer_states import LayerStates
from engine.training.microbatches import Microbatch
from engine.training.rank_parameters import RankParameters
from engine.training.storage import Storage
from layers.kernels import reorder
from layers.kernels.threads import Threads
from layers.layer import Array, Buffers, Scratch

CopyIn = Callable[[Threads, Array, Array], None]
"""``copy_in(threads, x, blocked)`` writes a plain minibatch into the graph's input."""

_LINE = 64  # bytes of a cache line


class Memory:
    """The buffers of each node for this rank's samples of a minibatch, or a microbatch, by the node's name.

    Parameters
    ----------
    parameters
        Of the graph that this rank runs; its forks are inserted. They know the number of microbatches.
    batch
        Samples of the global minibatch.
    threads
        Kernel threads.
    copy_in
        Copies a minibatch into the graph's input.
    """

    def __init__(
        self,
        parameters: RankParameters,
        states: LayerStates,
        batch: int,
        grid: Grid,
        threads: int,
        *,
        copy_in: CopyIn = reorder.to_blocked,
    ):
        self.graph = graph = parameters.graph
        self._copy_in = copy_in
        self.minibatch = np.zeros(batch, np.int64)
        """Key of each sample of the global minibatch (`Share.keys`); written before a step."""
        count = parameters.accumulate
        per_leaf = batch // grid.world.tree.leaves
        own = grid.own_leaves
        self.own_samples = slice(own.start * per_leaf, own.stop * per_leaf)
        """This rank's places in the global minibatch."""
        self._places = {Sharding.BATCH: _places(own, 1, count, per_leaf)}
        self._places[Sharding.FEATURE] = self._places[Sharding.WHOLE] = _places(
            grid.group_leaves, grid.parts, count, per_leaf
        )
        self._samples = {held: np.zeros_like(places[0]) for held, places in self._places.items()}
        sharding = {INPUT: Sharding.BATCH} | {value: node.held for node in graph for value in node.outputs}
        storage = Storage(graph, {value: len(self._samples[held]) for value, held in sharding.items()})
        values, gradients = storage.allocate_values(), storage.allocate_gradients()
        self.input = values[INPUT]
        self.output, self.output_gradient = values[graph.output], gradients[graph.output]

        def buffers(node: Node) -> Buffers:
            return Buffers(
                key=crc32(node.name.encode()),
                shapes=graph.input_shapes(node),
                shape=graph.shapes[node.outputs[0]],
                x=tuple(values[value] for value in node.inputs),
                y=tuple(values[value] for value in node.outputs),
                dx=tuple(gradients[value] for value in node.inputs) if storage.wants_gradient(node) else (),
                dy=tuple(gradients[value] for value in node.outputs if value in gradients),
                weights=parameters[node.name].weights,
                gradients=parameters[node.name].gradients,
                state=states.state(node.name),
                leaf_values=states.leaf_values(node.name),
                leaves=len(self._samples[node.held]) // per_leaf,
                samples=self._samples[node.held],
                first=node.first,
                others=_others(graph, node, gradients),
            )

        self._at = {node.name: buffers(node) for node in graph}
        each = len(own) // count
        self.microbatches = tuple(
            Microbatch(
                places=slice((own.start + first) * per_leaf, (own.start + first + each) * per_leaf),
                rows=slice(first * per_leaf, (first + each) * per_leaf),
                leaves=slice(first, first + each),
                is_last=first + each == len(own),
                buffers=self._of_microbatch(parameters, states, first // each, slice(first, first + each)),
            )
            for first in range(0, len(own), each)
        )
        """One, the whole share, unless the run accumulates."""
        self._allocate_scratch(threads)

    def __getitem__(self, name: str) -> Buffers:
        return self.microbatches[0][name]

    def _of_microbatch(
        self, parameters: RankParameters, states: LayerStates, microbatch: int, leaves: slice
    ) -> dict[str, Buffers]:
        """Return the buffers by node for one microbatch: its gradients, and what is noted of its leaves."""
        if parameters.accumulate == 1:
            return self._at
        found = {}
        for name, at in self._at.items():
            sums = parameters.partial_sums(name, microbatch)
            noted = states.leaf_values(name, leaves)
            gradients = sums[0].gradients if sums else {}
            found[name] = replace(
                at, gradients=gradients, leaf_values=noted, partial_sums=sums, prepared=microbatch > 0
            )
        return found

    def arrays(self) -> list[NDArray[np.generic]]:
        """Return all arrays of values and gradients; some are views of the same memory.

        Not working memory: what a layer asks for but never uses takes none while nobody touches it.
        """
        return [array for at in self._at.values() for array in (*at.x, *at.y, *at.dx, *at.dy)]

    def working_arrays(self) -> list[NDArray[np.generic]]:
        """Return the layers' working memory; most of it is shared by all layers."""
        return [array for at in self._at.values() for array in at.scratch.values()]

    def load(self, batch: Batch, threads: Threads) -> Microbatch:
        """Copy a plain minibatch, or a microbatch, into the graph's input; return its buffers."""
        for held, own in self._samples.items():
            self.minibatch.take(self._places[held][batch.microbatch], out=own)
        self._copy_in(threads, batch.x, self.input)
        return self.microbatches[batch.microbatch]

    def _allocate_scratch(self, threads: int) -> None:
        """Allocate the layers' working memory: an array for each that is kept, one arena for all others.

        With several microbatches what layers make of the weights is kept, for the first one makes it for all.

        In the arena the arrays of one node lie side by side, and those of all nodes over one another.
        """
        places: list[tuple[Buffers, str, Scratch, slice]] = []
        longest = 0
        for node in self.graph:
            at, end = self._at[node.name], 0
            for name, scratch in node.layer.scratch(len(at.samples), at.leaves, threads, *at.shapes).items():
                if scratch.kept or (scratch.of_weights and len(self.microbatches) > 1):
                    at.scratch[name] = aligned_zeros(scratch.shape, scratch.dtype)
                    continue
                size = int(np.prod(scratch.shape)) * np.dtype(scratch.dtype).itemsize
                places.append((at, name, scratch, slice(end, end + size)))
                end += ceil_div(size, _LINE) * _LINE
            longest = max(longest, end)
        arena = aligned_zeros((longest,), np.uint8)
        for at, name, scratch, place in places:
            at.scratch[name] = arena[place].view(scratch.dtype).reshape(scratch.shape)


def _others(graph: Graph, node: Node, gradients: dict[str, Array]) -> Array | None:
    """Return the gradient that a layer joins: that of the other output of the fork which it reads."""
    if not node.layer.joins:
        return None
    fork = next(each for each in graph if node.inputs[0] in each.outputs)
    (other,) = (value for value in fork.outputs if value != node.inputs[0])
    return gradients[other] if node.inputs[0] in gradients else None


def _places(leaves: range, members: int, count: int, per_leaf: int) -> list[NDArray[np.int64]]:
    """Return the places in the minibatch of each microbatch's samples: of each member a run of its leaves."""
    places = np.arange(leaves.start * per_leaf, leaves.stop * per_leaf).reshape(members, count, -1)
    return [np.ascontiguousarray(places[:, index].reshape(-1)) for index in range(count)]
