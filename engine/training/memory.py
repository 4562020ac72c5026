"""Every array of one rank's run: planned from the graph, allocated once."""

from collections.abc import Callable, Iterable
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from comm.grid import Grid
from engine.graph import INPUT, Node, Sharding
from engine.host.aligned_arrays import aligned_zeros
from engine.training.layer_states import LayerStates
from engine.training.rank_parameters import RankParameters
from layers.kernels import reorder
from layers.kernels.threads import Threads
from layers.layer import NO_HALO, Array, Buffers, Halo, Shape, wider
from layers.layout import interior, storage_shape

CopyIn = Callable[[Threads, Array, Array], None]
"""``copy_in(threads, x, blocked)`` writes a plain minibatch into the graph's input."""


class Memory:
    """The buffers of each node, for this rank's part of a minibatch.

    Values that may share storage do: an in-place layer writes over its input, a Fork hands out its
    input itself. Gradients of equal form take turns in the same storage. Values keep theirs, because
    the backward pass reads them. The graph must have had its forks inserted.

    Parameters
    ----------
    batch
        Samples of the global minibatch.
    copy_in
        Brings a minibatch into the graph's input.
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
        self._rows = {
            held: slice(each.start * per_leaf, each.stop * per_leaf) for held, each in leaves.items()
        }
        self._held = {INPUT: Sharding.BATCH} | {v: node.held for node in graph for v in node.outputs}
        self.mine = self._rows[Sharding.BATCH]
        """This rank's samples of the minibatch."""
        self._producer = {value: node for node in graph for value in node.outputs}
        values = self._allocate_values()
        gradients = self._allocate_gradients()
        self.input = values[INPUT]
        self.output, self.output_gradient = values[graph.output], gradients[graph.output]
        self._at: dict[str, Buffers] = {}
        shared: list[tuple[Buffers, str, Shape, type[np.generic]]] = []
        for node in graph:
            shapes, samples = graph.input_shapes(node), self.minibatch[self._rows[node.held]]
            at = self._at[node.name] = Buffers(
                key=crc32(node.name.encode()),
                shapes=shapes,
                shape=graph.shapes[node.outputs[0]],
                x=tuple(values[value] for value in node.inputs),
                y=tuple(values[value] for value in node.outputs),
                dx=tuple(gradients[value] for value in node.inputs) if self._wants_gradient(node) else (),
                dy=tuple(gradients[value] for value in node.outputs if value in gradients),
                weights=parameters[node.name].weights,
                gradients=parameters[node.name].gradients,
                state=states.state(node.name),
                leaf_values=states.leaf_values(node.name),
                leaves=len(leaves[node.held]),
                samples=samples,
                first=node.first,
            )
            for name, scratch in node.layer.scratch(len(samples), at.leaves, threads, *shapes).items():
                if scratch.kept:
                    at.scratch[name] = aligned_zeros(scratch.shape, scratch.dtype)
                else:
                    shared.append((at, name, scratch.shape, scratch.dtype))
        self._share(shared)

    def arrays(self) -> list[NDArray[np.generic]]:
        """Return all arrays of values and gradients; some are views of the same memory.

        Not working memory: what a layer asks for but never uses takes none while nobody touches it.
        """
        return [array for at in self._at.values() for array in (*at.x, *at.y, *at.dx, *at.dy)]

    def load(self, x: Array, threads: Threads) -> None:
        """Copy a plain minibatch, float32 ``[N, C, H, W]`` or ``[N, F]``, into the graph's input."""
        self._copy_in(threads, x, self.input)

    def _storage_shape(self, value: str, halo: Halo) -> Shape:
        rows = self._rows[self._held[value]]
        return storage_shape(self.graph.shapes[value], rows.stop - rows.start, halo)

    def __getitem__(self, name: str) -> Buffers:
        return self._at[name]

    def _wants_gradient(self, node: Node) -> bool:
        return any(self._trainable_behind(value) for value in node.inputs)

    def _trainable_behind(self, value: str) -> bool:
        """Return whether a parameter has a part in a value."""
        if value == INPUT:
            return False
        node = self._producer[value]
        return bool(node.layer.parameters(*self.graph.input_shapes(node))) or self._wants_gradient(node)

    def _may_overwrite(self, node: Node) -> bool:
        """Return whether a node's y may lie over its x: nobody else reads x, before or after."""
        if not node.layer.in_place or node.layer.reads_x or node.inputs[0] == INPUT:
            return False
        producer = self._producer[node.inputs[0]].layer
        return not producer.reads_y and producer.outputs == 1

    def _allocate_values(self) -> dict[str, Array]:
        same = _Classes(self.graph.shapes)
        for node in self.graph:
            if node.layer.outputs > 1 or self._may_overwrite(node):
                for value in node.outputs:
                    same.join(node.inputs[0], value)
        halos = dict.fromkeys(self.graph.shapes, NO_HALO)
        for node in self.graph:
            for value in node.inputs:
                halo = node.layer.halo(*self.graph.input_shapes(node))
                halos[same.of(value)] = wider(halos[same.of(value)], halo)
        stored: dict[str, Array] = {}
        for value, shape in self.graph.shapes.items():
            owner = same.of(value)
            if owner not in stored:
                storage = aligned_zeros(self._storage_shape(value, halos[owner]))
                stored[owner] = interior(storage, shape, halos[owner])
        return {value: stored[same.of(value)] for value in self.graph.shapes}

    def _allocate_gradients(self) -> dict[str, Array]:
        """Walk the backward pass; storage is free again once its producer's backward has read it."""
        graph = self.graph
        backward = [node for node in reversed(graph.nodes) if self._wants_gradient(node)]
        wanted = {graph.output, *(value for node in backward for value in node.inputs)}
        same = _Classes(value for value in graph.shapes if value in wanted)
        for node in backward:
            if node.layer.in_place:
                same.join(node.inputs[0], node.outputs[0])
        halos, last_reader = self._gradient_halos(same, wanted)
        free: dict[tuple[Shape, Halo], list[Array]] = {}
        stored: dict[str, Array] = {}
        for node in reversed(graph.nodes):
            writes = node.inputs if self._wants_gradient(node) else ()
            reads = {same.of(value) for value in node.outputs if value in wanted}
            for value in (*writes, *reads):  # the loss writes the gradient of the output
                owner = same.of(value)
                if owner not in stored:
                    form = self._storage_shape(value, halos[owner]), halos[owner]
                    spare = free.get(form)
                    stored[owner] = spare.pop() if spare else aligned_zeros(form[0])
            for owner in reads:
                if last_reader[owner] == node.name:
                    free.setdefault((stored[owner].shape, halos[owner]), []).append(stored[owner])
        return {
            value: interior(stored[same.of(value)], graph.shapes[value], halos[same.of(value)])
            for value in wanted
        }

    def _gradient_halos(self, same: "_Classes", wanted: set[str]) -> tuple[dict[str, Halo], dict[str, str]]:
        """Return by class the halo that its readers want, and the node that reads it last."""
        halos, last_reader = dict.fromkeys(wanted, NO_HALO), dict[str, str]()
        for node in reversed(self.graph.nodes):
            halo = node.layer.gradient_halo(*self.graph.input_shapes(node))
            for owner in {same.of(value) for value in node.outputs if value in wanted}:
                halos[owner] = wider(halos[owner], halo)
                last_reader[owner] = node.name
        return halos, last_reader

    def _share(self, requests: list[tuple[Buffers, str, Shape, type[np.generic]]]) -> None:
        """Lay the scratch arrays of all nodes over one another; those of one node side by side."""
        ends: dict[int, int] = {}
        places = []
        for at, name, shape, dtype in requests:
            start = ends.get(id(at), 0)
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            ends[id(at)] = start + -(-size // 64) * 64
            places.append((at, name, shape, dtype, start, size))
        arena = aligned_zeros((max(ends.values(), default=0),), np.uint8)
        for at, name, shape, dtype, start, size in places:
            at.scratch[name] = arena[start : start + size].view(dtype).reshape(shape)


class _Classes:
    """Values that share storage, each class named after its first member."""

    def __init__(self, values: Iterable[str]):
        self._parent = {value: value for value in values}
        self._rank = {value: index for index, value in enumerate(self._parent)}

    def of(self, value: str) -> str:
        while self._parent[value] != value:
            value = self._parent[value]
        return value

    def join(self, one: str, other: str) -> None:
        first, second = sorted((self.of(one), self.of(other)), key=self._rank.__getitem__)
        self._parent[second] = first
