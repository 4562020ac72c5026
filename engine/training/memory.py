"""Every array of one rank's steps: planned from the graph, allocated once."""

from collections.abc import Callable
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from comm.grid import Grid
from comm.tree import ceil_div
from engine.graph import INPUT, Sharding
from engine.host.aligned_arrays import aligned_zeros
from engine.training.layer_states import LayerStates
from engine.training.rank_parameters import RankParameters
from engine.training.storage import Storage
from layers.kernels import reorder
from layers.kernels.threads import Threads
from layers.layer import Array, Buffers, Scratch

CopyIn = Callable[[Threads, Array, Array], None]
"""``copy_in(threads, x, blocked)`` writes a plain minibatch into the graph's input."""

_LINE = 64  # bytes of a cache line


class Memory:
    """The buffers of each node for this rank's samples of a minibatch, by the node's name.

    Parameters
    ----------
    parameters
        Of the graph that this rank runs; its forks are inserted.
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
        """Index in the data set of each sample of the global minibatch; written before a step."""
        leaves = {Sharding.BATCH: grid.own_leaves}
        leaves[Sharding.FEATURE] = leaves[Sharding.WHOLE] = grid.group_leaves
        per_leaf = batch // grid.world.tree.leaves
        places = {held: slice(run.start * per_leaf, run.stop * per_leaf) for held, run in leaves.items()}
        self.own_samples = places[Sharding.BATCH]
        """This rank's places in the global minibatch."""
        samples = {held: self.minibatch[rows] for held, rows in places.items()}
        sharding = {INPUT: Sharding.BATCH} | {value: node.held for node in graph for value in node.outputs}
        storage = Storage(graph, {value: len(samples[held]) for value, held in sharding.items()})
        values, gradients = storage.allocate_values(), storage.allocate_gradients()
        self.input = values[INPUT]
        self.output, self.output_gradient = values[graph.output], gradients[graph.output]
        self._at = {
            node.name: Buffers(
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
                leaves=len(leaves[node.held]),
                samples=samples[node.held],
                first=node.first,
            )
            for node in graph
        }
        self._allocate_scratch(threads)

    def __getitem__(self, name: str) -> Buffers:
        return self._at[name]

    def arrays(self) -> list[NDArray[np.generic]]:
        """Return all arrays of values and gradients; some are views of the same memory.

        Not working memory: what a layer asks for but never uses takes none while nobody touches it.
        """
        return [array for at in self._at.values() for array in (*at.x, *at.y, *at.dx, *at.dy)]

    def working_arrays(self) -> list[NDArray[np.generic]]:
        """Return the layers' working memory; most of it is shared by all layers."""
        return [array for at in self._at.values() for array in at.scratch.values()]

    def load(self, x: Array, threads: Threads) -> None:
        """Copy a plain minibatch, float32 ``[N, C, H, W]`` or ``[N, F]``, into the graph's input."""
        self._copy_in(threads, x, self.input)

    def _allocate_scratch(self, threads: int) -> None:
        """Allocate the layers' working memory: an array for each that is kept, one arena for all others.

        In the arena the arrays of one node lie side by side, and those of all nodes over one another.
        """
        places: list[tuple[Buffers, str, Scratch, slice]] = []
        longest = 0
        for node in self.graph:
            at, end = self._at[node.name], 0
            for name, scratch in node.layer.scratch(len(at.samples), at.leaves, threads, *at.shapes).items():
                if scratch.kept:
                    at.scratch[name] = aligned_zeros(scratch.shape, scratch.dtype)
                    continue
                size = int(np.prod(scratch.shape)) * np.dtype(scratch.dtype).itemsize
                places.append((at, name, scratch, slice(end, end + size)))
                end += ceil_div(size, _LINE) * _LINE
            longest = max(longest, end)
        arena = aligned_zeros((longest,), np.uint8)
        for at, name, scratch, place in places:
            at.scratch[name] = arena[place].view(scratch.dtype).reshape(scratch.shape)
