"""The contract between a layer and the engine."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from layers.kernels.simd import LANES
from layers.kernels.threads import Threads
from layers.onnx_form import OnnxForm
from layers.work import BACKWARD_WEIGHTS, FORWARD, Extents

Shape = tuple[int, ...]
Array = NDArray[np.float32]
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
    """Of the initial normal distribution; 0 starts at `initial` everywhere."""
    rate_factor: float = 1.0
    """What the learning rate is multiplied by; 0: it is not trained, and has no gradient."""
    initial: float = 0.0
    """What all values start at where the variance is 0."""
    identity_rows: int = 0
    """Rows, from the first on, that start as the identity instead: 1 at the input of their number (in the
    middle of a kernel), else 0."""
    decay_factor: float = 1.0
    """What the weight decay is multiplied by; 0: exempt."""
    block_rows: int = 0
    """Standard rows in each index of `blocked`, of which `pack` takes any run too; 0: only all at once."""
    given: Array | None = field(default=None, compare=False)
    """float32 in standard layout that it starts with instead; None: there is none."""

    def pieces(self, blocked: Array, floats: int) -> Iterator[tuple[Shape, Array]]:
        """Yield the standard shape and the place of each part that `pack` can write by itself, in order.

        Parts hold `floats` or, where a block of rows is longer, that.
        """
        if self.block_rows == 0:
            yield self.shape, blocked
            return
        rows, *rest = self.shape
        step = max(1, floats // (self.block_rows * math.prod(rest)))
        for first in range(0, len(blocked), step):
            count = min(step * self.block_rows, rows - first * self.block_rows)
            yield (count, *rest), blocked[first : first + step]


def write_identity(rows: Array, first: int, count: int) -> None:
    """Make those of `rows` that are among the first `count` of a parameter rows of the identity.

    Parameters
    ----------
    rows : float32 [rows, inputs, ...]
        Consecutive rows of a parameter in standard layout.
    first
        Number of rows[0] in the parameter.
    """
    if count <= first:  # also a vector that is drawn
        return
    rows = rows[: count - first]
    rows[...] = 0
    middle = (size // 2 for size in rows.shape[2:])
    indices = np.arange(len(rows))
    rows[indices, indices + first, *middle] = 1


@dataclass(frozen=True)
class State:
    """One array that is no parameter, yet belongs to checkpoints and hashes, such as running statistics.

    It is float32, has the same bits on all ranks, and starts at `initial` everywhere.
    """

    shape: Shape
    initial: float = 0.0


@dataclass(frozen=True)
class PartialSum:
    """Where a microbatch leaves its gradients: one subtree of the sum over the leaves."""

    gradients: dict[str, Array]
    adds: tuple[tuple[Array, Array], ...]
    """Flat (sum, addend), to be added in this order once the gradients are written."""


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
    ``[N, F]`` with F rounded up to LANES. Padded channels and features are zero. The network's input may be
    ``[N, 1, H, W, C]``, if its reader asked for that (`Layer.input_lanes`).
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
    data_first: bool = False
    """backward_data runs before backward_weights: what serves both is made by the one that runs first."""
    finish_backward_data: Callable[[], None] | None = None
    """Completes dx where an exchange has only started it."""
    state: dict[str, Array] = field(default_factory=dict)
    """Arrays of `Layer.state`; only `Layer.update_state` writes them."""
    leaf_values: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Arrays of `Layer.leaf_values` with one row for each leaf held here, written by forward in training."""
    others: Array | None = None
    """Gradient of x by its other reader, for a layer that `joins`."""
    prepared: bool = False
    """Of a microbatch: an earlier one of the step has filled what working memory is made of weights alone."""
    partial_sums: tuple[PartialSum, ...] = ()
    """Of a microbatch: for each rank whose samples are here, in their order, where their gradients go."""


@dataclass(frozen=True)
class Scratch:
    """A request for working memory; `kept` from forward to backward, else shared with other nodes."""

    shape: Shape
    dtype: type[np.generic] = np.float32
    kept: bool = False
    of_weights: bool = False
    """Whether its content is made of the weights alone: kept where a step has several microbatches."""


class Layer(ABC):
    """One differentiable operation.

    A layer is an immutable description: it owns no memory, and knows no neighbour, rank or batch
    split. Results overwrite their target. Every output element of a sample is computed in an order
    that depends on the layer's shape only, and gradients of parameters add the leaves as a balanced
    binary tree.

    The engine asks a layer for all that it plans, costs and schedules by; it lists no classes of layers.
    """

    outputs = 1
    """Values made; more than one only where the same value is handed to several readers."""
    reads_x = False
    """backward_data or backward_weights reads x."""
    reads_y = False
    """backward_data or backward_weights reads y."""
    in_place = False
    """y may be stored over x, and dx over dy."""
    joins = False
    """backward_data adds `Buffers.others`: dx is the gradient by all readers of x."""
    shared_gradients: tuple[tuple[int, int], ...] = ()
    """Pairs of an input and an output whose gradients are one array: dx is dy."""
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

    def input_lanes(self, *inputs: Shape) -> int:
        """Return the values of a pixel in memory where x is the network's input, and nobody else's.

        LANES, or the number of channels: then the layer reads such images as well as those of whole blocks.
        """
        return LANES

    def shard(self, parts: int) -> tuple[Self, ...]:
        """Return layers that make equal parts of the output features; ValueError where that cannot be."""
        raise ValueError(f"{type(self).__name__} cannot be split by its output features")

    def state(self, *inputs: Shape) -> dict[str, State]:
        """Return the arrays by name that outlive a step without being trained."""
        return {}

    def leaf_values(self, *inputs: Shape) -> dict[str, Shape]:
        """Return the shapes by name of what forward notes of each leaf for `update_state`."""
        return {}

    def update_state(  # noqa: B027
        self, state: dict[str, Array], leaf_values: Mapping[str, NDArray[np.float64]], step: int
    ) -> None:
        """Overwrite the state after a training step.

        Parameters
        ----------
        leaf_values
            What forward noted, gathered from all ranks: one row for each leaf of the global minibatch, in the
            order of the leaves. It is the same on all ranks, so the state stays the same too.
        step
            Steps done before this one.
        """

    def leaves_together(self, leaves: int) -> int:
        """Return the least run of a minibatch's `leaves`, a power of two, that a pass must be given whole."""
        return 1

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return the layer outside training in operators of ONNX; see `layers.onnx_form`.

        There is no default, as a guess would be a wrong file: ValueError where a layer does not say.
        """
        raise ValueError(
            f"{type(self).__name__} has no ONNX form; give it a method onnx(self, *inputs) that returns its "
            'operators, such as (OnnxNode("Relu"),)'
        )

    def extents(self, *inputs: Shape) -> Extents | None:
        """Return the extents of the loops; None for a layer whose passes do not multiply matrices."""
        return None

    def flops(self, *inputs: Shape) -> int:
        """Return the FLOP of one pass over one sample by the direct algorithm, a multiply-add as two."""
        extents = self.extents(*inputs)
        return 0 if extents is None else extents.flops

    def is_winograd(self, direction: str, samples_per_leaf: int, *inputs: Shape) -> bool:
        """Return whether a pass, one of `layers.work.PASSES`, uses Winograd's algorithm."""
        return False

    def executed_flops(self, direction: str, samples: int, leaves: int, *inputs: Shape) -> int:
        """Return the FLOP of the multiply-adds that the kernels of a pass execute."""
        return samples * self.flops(*inputs)

    def elementwise_floats(self, direction: str, *inputs: Shape) -> float:
        """Return the floats that elementwise kernels of a pass read and write for one sample.

        Operands of matrix products do not count: `extents` tells them.
        """
        if self.extents(*inputs) is not None or direction == BACKWARD_WEIGHTS:
            return 0
        read, written = sum(map(math.prod, inputs)), math.prod(self.output_shape(*inputs))
        if direction == FORWARD:
            return 0 if self.outputs > 1 else read + written  # several outputs are the input itself
        kept = (read if self.reads_x else 0) + (written * self.outputs if self.reads_y else 0)
        return read + written * self.outputs + kept

    def cost_key(self) -> str:
        """Return one text for all layers that cost the same, whatever they are called."""
        return _described(self)

    @abstractmethod
    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""

    def backward_weights(self, at: Buffers, run: Context) -> None:  # noqa: B027
        """Write the gradients of the parameters; a layer without any has nothing to do.

        Where it writes dx too, as one pass makes both, `backward_data` has nothing left to do.
        """

    @abstractmethod
    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""


def has_members_of(kind: type[Layer], base: type[Layer], names: Iterable[str]) -> bool:
    """Say whether a class has these members of another one as they are: a subclass may do otherwise."""
    return all(getattr(kind, name) is getattr(base, name) for name in names)


_NO_COST = ("gain", "initial_scale", "identity", "name", "node", "rounds")
"""Fields that change the time of no pass: the scale of the first weights, names, how a value is compared."""


_NEWER = ("precision", "reads_input", "joined", "rectified")
"""Fields that are named where they are not as usual: texts of measurements from before stay the same."""


def _described(described: Any) -> str:
    named = [
        each.name
        for each in fields(described)
        if each.repr
        and each.name not in _NO_COST
        and not (each.name in _NEWER and getattr(described, each.name) == each.default)
    ]
    values = [(name, getattr(described, name)) for name in named]
    said = (f"{name}={_described(value) if is_dataclass(value) else value}" for name, value in values)
    return f"{type(described).__name__}({', '.join(said)})"
