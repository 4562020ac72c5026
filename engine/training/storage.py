"""Plan which values and gradients of a graph may share storage, and allocate it once."""

from collections.abc import Iterable, Mapping

from engine.graph import INPUT, Graph, Node
from engine.host.aligned_arrays import aligned_zeros
from layers.kernels.simd import LANES
from layers.layer import NO_HALO, Array, Halo, Shape, wider
from layers.layout import interior, storage_shape


class Storage:
    """The storage of one rank's values and gradients.

    An in-place layer writes over its input where nobody reads that any more, and a Fork hands out its input
    itself. Values keep their storage through a step, because the backward pass reads them; gradients of equal
    form take turns, and those of an input and an output may be one (`Layer.shared_gradients`).

    Parameters
    ----------
    graph
        With its forks inserted: each value has one reader.
    samples
        Samples of each value on this rank, by its name.
    """

    def __init__(self, graph: Graph, samples: Mapping[str, int]):
        self._graph, self._samples = graph, samples
        self._producers = {value: node for node in graph for value in node.outputs}
        self._trainable = set[str]()  # values in which a parameter that is trained has a part
        for node in graph:
            its = node.layer.parameters(*graph.input_shapes(node)).values()
            if any(each.rate_factor > 0 for each in its) or self.wants_gradient(node):
                self._trainable.update(node.outputs)

    def wants_gradient(self, node: Node) -> bool:
        """Return whether a node must compute its inputs' gradients: a trained parameter has a part there."""
        return not self._trainable.isdisjoint(node.inputs)

    def allocate_values(self) -> dict[str, Array]:
        """Return an array for each value of the graph, with the halo that its readers ask for."""
        graph = self._graph
        shared = _SharedStorage(graph.shapes)
        for node in graph:
            if node.layer.outputs > 1 or self._may_overwrite(node):
                for value in node.outputs:
                    shared.join(node.inputs[0], value)
        halos = dict.fromkeys(graph.shapes, NO_HALO)
        for node in graph:
            for value in node.inputs:
                owner = shared.owner(value)
                halos[owner] = wider(halos[owner], node.layer.halo(*graph.input_shapes(node)))
        arrays: dict[str, Array] = {}
        for value, shape in graph.shapes.items():
            owner = shared.owner(value)
            if owner not in arrays:
                lanes = self._input_lanes(shared) if owner == INPUT else LANES
                arrays[owner] = interior(self._zeros(value, halos[owner], lanes), shape, halos[owner])
        return {value: arrays[shared.owner(value)] for value in graph.shapes}

    def allocate_gradients(self) -> dict[str, Array]:
        """Return an array for each gradient that the backward pass computes.

        Storage is free again once the node that made the value has read its gradient.
        """
        graph = self._graph
        backward = [node for node in reversed(graph.nodes) if self.wants_gradient(node)]
        wanted = {graph.output, *(value for node in backward for value in node.inputs)}
        shared = _SharedStorage(value for value in graph.shapes if value in wanted)
        for node in backward:
            for place, output in _shared_gradients(node):
                shared.join(node.inputs[place], node.outputs[output])
        halos, last_readers = self._gradient_readers(shared, wanted)
        free: dict[tuple[Shape, Halo], list[Array]] = {}
        stored: dict[str, Array] = {}
        for node in reversed(graph.nodes):
            writes = node.inputs if self.wants_gradient(node) else ()
            reads = {shared.owner(value) for value in node.outputs if value in wanted}
            for value in (*writes, *reads):  # the loss writes the gradient of the output
                owner = shared.owner(value)
                if owner not in stored:
                    spare = free.get((self._shape(value, halos[owner]), halos[owner]))
                    stored[owner] = spare.pop() if spare else self._zeros(value, halos[owner])
            for owner in reads:
                if last_readers[owner] == node.name:
                    free.setdefault((stored[owner].shape, halos[owner]), []).append(stored[owner])
        return {
            value: interior(stored[shared.owner(value)], graph.shapes[value], halos[shared.owner(value)])
            for value in wanted
        }

    def _gradient_readers(
        self, shared: "_SharedStorage", wanted: set[str]
    ) -> tuple[dict[str, Halo], dict[str, str]]:
        """Return for each owner the halo that the readers of its gradients want, and the last one's name."""
        halos, last_readers = dict.fromkeys(wanted, NO_HALO), dict[str, str]()
        for node in reversed(self._graph.nodes):
            halo = node.layer.gradient_halo(*self._graph.input_shapes(node))
            for owner in {shared.owner(value) for value in node.outputs if value in wanted}:
                halos[owner] = wider(halos[owner], halo)
                last_readers[owner] = node.name
        return halos, last_readers

    def _may_overwrite(self, node: Node) -> bool:
        """Return whether a node's y may lie over its x: nobody else reads x, before or after."""
        if not node.layer.in_place or node.layer.reads_x or node.inputs[0] == INPUT:
            return False
        producer = self._producers[node.inputs[0]].layer
        return not producer.reads_y and producer.outputs == 1

    def _input_lanes(self, shared: "_SharedStorage") -> int:
        """Return the values of a pixel of the graph's input: what all its readers want, else whole blocks."""
        graph = self._graph
        wanted = {
            node.layer.input_lanes(*graph.input_shapes(node))
            for node in graph
            if node.layer.outputs == 1 and INPUT in map(shared.owner, node.inputs)
        }
        return wanted.pop() if len(wanted) == 1 else LANES

    def _shape(self, value: str, halo: Halo, lanes: int = LANES) -> Shape:
        return storage_shape(self._graph.shapes[value], self._samples[value], halo, lanes)

    def _zeros(self, value: str, halo: Halo, lanes: int = LANES) -> Array:
        return aligned_zeros(self._shape(value, halo, lanes))


def _shared_gradients(node: Node) -> tuple[tuple[int, int], ...]:
    """Return the pairs of an input and an output of a node whose gradients lie over one another."""
    over = ((0, 0),) if node.layer.in_place else ()
    return over + node.layer.shared_gradients


class _SharedStorage:
    """Sets of values that share storage; the first value of a set owns it."""

    def __init__(self, values: Iterable[str]):
        self._next = {value: value for value in values}  # towards the owner
        self._order = {value: index for index, value in enumerate(self._next)}

    def owner(self, value: str) -> str:
        while self._next[value] != value:
            value = self._next[value]
        return value

    def join(self, one: str, other: str) -> None:
        first, second = sorted((self.owner(one), self.owner(other)), key=self._order.__getitem__)
        self._next[second] = first
