"""What an update is told and gives: a piece of a strip, and what a step does with each."""

from collections.abc import Callable
from dataclasses import dataclass

from layers.kernels.sum_of_squares import Limbs, add_squares
from layers.layer import Array


@dataclass(frozen=True)
class Piece:
    """A piece of a strip, flat float32 arrays of one length, and the factors of its weights."""

    weights: Array
    gradients: Array
    moments: tuple[Array, ...] = ()
    """Of the optimizer, in the order of `Optimizer.moments`."""
    average: Array | None = None
    """Of the weights; None where the recipe asks for none."""
    rate: float = 1.0
    """What the learning rate is multiplied by."""
    decay: float = 1.0
    """What the weight decay is multiplied by; 0: exempt."""
    trust: float = 1.0
    """What the rate of the whole tensor is multiplied by, from its norms."""


def _nothing(piece: Piece) -> None:
    """Leave a piece as it is."""


def _no_trust(_weights: float, _direction: float, _decay: float) -> float:
    return 1.0


@dataclass(frozen=True)
class Update:
    """One step's update, in the order in which a bucket calls its parts."""

    apply: Callable[[Piece], None] = _nothing
    """Overwrite weights, moments and average."""
    direct: Callable[[Piece], None] = _nothing
    """Before the norms of tensors are taken: overwrite the moments, and the gradients with a direction."""
    trust: Callable[[float, float, float], float] = _no_trust
    """``trust(norm of the weights, norm of the direction, decay)``: the `Piece.trust` of a tensor."""
    add_squares: Callable[[Array, Limbs], None] = add_squares
    """Adds the squares of a piece to a sum; see `layers.kernels.sum_of_squares`."""


NOTHING = Update(add_squares=lambda _values, _limbs: None)
"""Leaves the weights as they are, and takes no norms."""


@dataclass(frozen=True)
class UpdateForm:
    """What of an update decides which arrays and messages there are; its numbers do not matter here."""

    moments: tuple[str, ...] = ("momentum",)
    """Names of the arrays like the weights that the optimizer keeps."""
    per_tensor: bool = False
    """Whether it needs norms of each tensor."""
    holds_back: bool = False
    """Whether it needs the norm of all gradients: to clip them, or to leave a step out."""
    averages: bool = False
    """Whether weights are averaged."""

    @property
    def streams(self) -> int:
        """How many times an update reads or writes as many floats as there are weights."""
        return 3 + 2 * (len(self.moments) + self.averages)
