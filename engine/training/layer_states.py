"""State of layers: arrays that are not trained, but are kept equal on all ranks, saved and hashed."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from comm.collectives import Collectives
from comm.comm_thread import CommandQueue, Request
from engine.graph import Graph, Sharding
from engine.training.average import move, share_of
from engine.training.bucket import BEFORE_PARAMETERS
from engine.training.hashes import sha256_of
from engine.training.held import Tensors, made
from engine.training.parameters import TRAINED
from layers.layer import Array

Values = NDArray[np.float64]


class LayerStates:
    """The state of all layers on this rank, and what their forward passes note of each leaf for it.

    After the forward pass the rows of all ranks' leaves are gathered in one message. Every rank then updates
    its copy from the same rows in the same order, so that copies stay equal to the bit on any ranks.

    Raises
    ------
    ValueError
        A parameter and a state of a layer have one name, which would be one tensor in a checkpoint.
    """

    def __init__(self, graph: Graph, collectives: Collectives, queue: CommandQueue, *, ema: float = 0.0):
        self._collectives, self._queue, self._ema = collectives, queue, ema
        self._nodes = [node for node in graph if node.layer.state(*graph.input_shapes(node))]
        assert all(node.held is Sharding.BATCH and not node.shards for node in self._nodes)
        own = collectives.tree.leaves_of(collectives.communicator.rank)
        self._own = slice(own.start, own.stop)
        self._state: dict[str, dict[str, Array]] = {}
        self._columns: dict[str, dict[str, slice]] = {}
        shapes: dict[str, dict[str, tuple[int, ...]]] = {}
        width = 0
        for node in self._nodes:
            inputs = graph.input_shapes(node)
            if twice := node.layer.parameters(*inputs).keys() & node.layer.state(*inputs).keys():
                raise ValueError(f"{node.name}: {', '.join(sorted(twice))} names a parameter and a state")
            self._state[node.name] = {
                name: np.full(state.shape, state.initial, np.float32)
                for name, state in node.layer.state(*inputs).items()
            }
            shapes[node.name] = node.layer.leaf_values(*inputs)
            self._columns[node.name] = {}
            for name, shape in shapes[node.name].items():
                size = int(np.prod(shape))
                self._columns[node.name][name] = slice(width, width + size)
                width += size
        self._rows = np.zeros((collectives.tree.leaves, width), np.float64)
        self._noted = {
            node: {name: np.zeros((len(own), *shape), np.float64) for name, shape in its.items()}
            for node, its in shapes.items()
        }
        self._averages = self.tensors() if ema else {}
        self._request: Request | None = None

    def state(self, node: str) -> dict[str, Array]:
        """Return the arrays of a node's state by name; none where its layer has no state."""
        return self._state.get(node, {})

    def leaf_values(self, node: str, leaves: slice = slice(None)) -> dict[str, Values]:
        """Return the arrays that a node's forward pass fills, one row for each of some own leaves."""
        return {name: rows[leaves] for name, rows in self._noted.get(node, {}).items()}

    def submit(self) -> None:
        """Start gathering what the forward passes have noted."""
        if not self._rows.size:
            return
        for node, name, columns in self._places():
            noted = self._noted[node][name]
            self._rows[self._own, columns] = noted.reshape(len(noted), -1)
        self._request = self._queue.submit(
            self._collectives.all_gather_leaves(self._rows),
            name="gather leaf values",
            priority=BEFORE_PARAMETERS,
        )

    def wait(self) -> None:
        """Return when the rows that were submitted have come from all ranks."""
        if self._request is not None:
            self._request.wait()
            self._request = None

    def update(self, step: int) -> None:
        """Wait for the rows of all ranks, and let every layer update its state."""
        self.wait()
        for node in self._nodes:
            noted = self._noted[node.name]
            values = {
                name: self._rows[:, columns].reshape(-1, *noted[name].shape[1:])
                for name, columns in self._columns[node.name].items()
            }
            node.layer.update_state(self._state[node.name], values, step)
        if self._averages:
            share = share_of(self._ema, step)
            for owner, name, array in self._arrays():
                move(self._averages[f"{owner}.{name}"], array, share)

    @property
    def names(self) -> frozenset[str]:
        """The names of `tensors`."""
        return frozenset(f"{node}.{name}" for node, name, _ in self._arrays())

    def tensors(self) -> dict[str, Array]:
        """Return copies of all state by name, ``node.state``."""
        return {f"{node}.{name}": array.copy() for node, name, array in self._arrays()}

    def saved(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return copies of all state as checkpoints have it: what goes with the model, and the optimizer.

        The model's are the averages, if there are any; what is trained then goes with the optimizer.
        """
        if not self._averages:
            return self.tensors(), {}
        trained = {f"{TRAINED}{name}": array for name, array in self.tensors().items()}
        return {name: array.copy() for name, array in self._averages.items()}, trained

    def restore_saved(self, tensors: Tensors) -> None:
        """Overwrite state and averages with what a checkpoint has."""
        self.restore(tensors, TRAINED if self._averages else "")
        self.start_averages(tensors)

    def restore(self, tensors: Tensors, prefix: str = "") -> None:
        """Overwrite the state with tensors of a checkpoint, behind a prefix."""
        for node, name, array in self._arrays():
            array[...] = made(tensors[f"{prefix}{node}.{name}"])

    def start_averages(self, tensors: Tensors) -> None:
        """Let the averages, where there are any, be these tensors."""
        for name, array in self._averages.items():
            array[...] = made(tensors[name])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let averages stand in the place of the state inside the `with`; nothing without any."""
        self._swap()
        yield
        self._swap()

    def _swap(self) -> None:
        own, averages = self.tensors(), {name: array.copy() for name, array in self._averages.items()}
        if averages:
            self.restore(averages)
            self.start_averages(own)

    def sha256(self) -> str | None:
        """Hash all state, sorted by name, little-endian float32; None for a network without any."""
        tensors = self.tensors()
        return sha256_of(tensors) if tensors else None

    def _arrays(self) -> Iterator[tuple[str, str, Array]]:
        for node, its in self._state.items():
            for name, array in its.items():
                yield node, name, array

    def _places(self) -> Iterator[tuple[str, str, slice]]:
        for node, its in self._columns.items():
            for name, columns in its.items():
                yield node, name, columns
