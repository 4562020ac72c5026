"""The contract between a layer and the engine."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from layers.kernels.threads import Threads

Shape = tuple[int, ...]
Array = NDArray[np.float32]
Finish = Callable[[], None]
"""Ends what a layer has begun; until then the layer's scratch is in use."""

Halo = tuple[int, int]
"""Zero columns that an image's rows have in memory on their left and right, beyond the view."""

NO_HALO: Halo = (0, 0)


def wider(one: Halo, other: Halo) -> Halo:
    """Return the halo that holds both."""
    return max(one[0], other[0]), max(one[1], other[1])


@dataclass(frozen=True)
class Parameter:
    """One trainable array: its standard form, and how the kernels hold it.

    `shape` is the standard layout (OIHW, [out, in]) of checkpoints and hashes; `blocked` that of the
    kernels, padded with zeros.
    """

    shape: Shape
    blocked: Shape
    pack: Callable[[Array, Array], None]
    """``pack(standard, blocked)`` writes `blocked`, padding included."""
    unpack: Callable[[Array], Array]
    """``unpack(blocked)`` returns the standard array."""
    variance: float
    """Of the initial normal distribution; 0 starts at zero."""


@dataclass
class Context:
    """What a pass over the graph knows beside its arrays."""

    threads: Threads
    training: bool = True
    seed: int = 0
    step: int = 0


@dataclass
class Buffers:
    """Every array that one node touches; made once by the engine, overwritten in each step.

    Images are float32 ``[N, C/LANES, H, W, LANES]`` (nChw16c and its like): a view whose rows have
    in memory at least the halo of zeros that the reading layer asked for. Vectors are float32
    ``[N, F]`` with F rounded up to LANES. Padded channels and features are zero.
    """

    key: int
    """Of the node's random numbers; a function of its name only."""
    shapes: tuple[Shape, ...]
    """Logical shape of one sample of each input."""
    shape: Shape
    """Logical shape of one sample of the output."""
    x: tuple[Array, ...]
    y: tuple[Array, ...]
    dx: tuple[Array, ...]
    """Empty where no gradient is wanted (the graph's input)."""
    dy: tuple[Array, ...]
    weights: dict[str, Array] = field(default_factory=dict)
    gradients: dict[str, Array] = field(default_factory=dict)
    scratch: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    leaves: int = 1
    """Leaves in the minibatch held here: equal runs of consecutive samples."""
    samples: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Index in the data set of each sample held here."""
    first: int = 0
    """Feature or channel of the whole value with which those held here begin; 0 unless ranks share them."""


@dataclass(frozen=True)
class Scratch:
    """A request for working memory; `kept` from forward to backward, else shared with other nodes."""

    shape: Shape
    dtype: type[np.generic] = np.float32
    kept: bool = False


class Layer(ABC):
    """One differentiable operation.

    A layer is an immutable description: it owns no memory, and knows no neighbour, rank or batch
    split. Results overwrite their target. Every output element of a sample is computed in an order
    that depends on the layer's shape only, and gradients of parameters add the leaves as a balanced
    binary tree.
    """

    outputs = 1
    """Values made; more than one only where the same value is handed to several readers."""
    reads_x = False
    """backward_data or backward_weights reads x."""
    reads_y = False
    """backward_data or backward_weights reads y."""
    in_place = False
    """y may be stored over x, and dx over dy."""
    featurewise = False
    """Feature (or channel) i of y depends on the features i of the inputs only; on i itself by way of
    `Buffers.first`."""

    @abstractmethod
    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of one output sample; ValueError where the inputs do not fit."""

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """Return the trainable arrays by name, in the order in which they are stored."""
        return {}

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return the working memory wanted for a minibatch of `samples` in `leaves`."""
        return {}

    def halo(self, *inputs: Shape) -> Halo:
        """Return the zero columns that forward and backward_weights read beside the rows of x."""
        return NO_HALO

    def gradient_halo(self, *inputs: Shape) -> Halo:
        """Return the zero columns that backward_data reads beside the rows of dy."""
        return NO_HALO

    def shard(self, parts: int) -> tuple[Self, ...]:
        """Return layers that make equal parts of the output features; ValueError where that cannot be."""
        raise ValueError(f"{type(self).__name__} cannot be split by its output features")

    def flops(self, *inputs: Shape) -> int:
        """Return the floating point operations of forward for one sample, a multiply-add as two."""
        return 0

    @abstractmethod
    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""

    def backward_weights(self, at: Buffers, run: Context) -> None:  # noqa: B027
        """Write the gradients; nothing to do for a layer without parameters."""

    @abstractmethod
    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""

    def backward_data_first(self, at: Buffers, run: Context) -> None:
        """Write dx where backward_weights comes only after it: the other order is the usual one."""
        self.backward_data(at, run)

    def begin_backward_data(self, at: Buffers, run: Context) -> Finish:
        """Begin to write dx, from a dy that is free again; for a layer that waits for somebody meanwhile."""
        self.backward_data(at, run)
        return _nothing


def _nothing() -> None:
    """Finish what is done already."""
