"""Optimizers; they see flat pieces of strips only.

Factors that change from step to step are computed in float64, from whole numbers where powers are in them
(`engine.training.rounded`); kernels take them as float32.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from engine.config.recipe import OptimizerFields
from engine.training.average import move
from engine.training.rounded import one_minus_power
from engine.training.update import Piece, Update
from layers.kernels import adam, sgd, steps

_USUAL_EPS = {"adamw": 1e-8, "lamb": 1e-6}


class Optimizer(Protocol):
    """The interface of an optimizer."""

    moments: ClassVar[tuple[str, ...]]
    """Names of the arrays like the weights that it keeps from step to step, as checkpoints call them."""
    per_tensor: ClassVar[bool]
    """Whether its step depends on the norms of whole tensors."""

    def at(self, step: int, rate: float) -> Update:
        """Return the update of a step, counted from 0, at a learning rate."""


@dataclass(frozen=True)
class SGD:
    """Momentum SGD in the form of Sutskever et al. 2013, with L2 weight decay on every parameter.

    ``g = gradient + weight_decay * w; v = momentum * v + g``, then ``w -= rate * v``, or with Nesterov's
    momentum ``w -= rate * (g + momentum * v)``.
    """

    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0

    moments: ClassVar[tuple[str, ...]] = ("momentum",)
    per_tensor: ClassVar[bool] = False

    def at(self, step: int, rate: float) -> Update:
        """Return the update at a rate; it is the same in all steps."""

        def apply(piece: Piece) -> None:
            (velocity,) = piece.moments
            sgd.update(
                piece.weights, piece.gradients, velocity,
                rate * piece.rate, self.momentum, self.weight_decay * piece.decay, self.nesterov,
            )  # fmt: skip

        return Update(apply)


@dataclass(frozen=True)
class LARS:
    """You et al. 2017, arXiv:1708.03888: momentum SGD whose rate follows the norms of each tensor.

    ``trust = trust_coefficient * |w| / (|g| + weight_decay * |w|)``, 1 where a norm is 0, and for tensors
    that are exempt from weight decay; ``v = momentum * v + rate * trust * (g + weight_decay * w); w -= v``.
    """

    momentum: float = 0.9
    weight_decay: float = 0.0
    trust_coefficient: float = 1e-3

    moments: ClassVar[tuple[str, ...]] = ("momentum",)
    per_tensor: ClassVar[bool] = True

    def at(self, step: int, rate: float) -> Update:
        """Return the update at a rate; it is the same in all steps."""

        def apply(piece: Piece) -> None:
            steps.lars(
                piece.weights, piece.gradients, *piece.moments,
                rate=rate * piece.rate * piece.trust, momentum=self.momentum,
                weight_decay=self.weight_decay * piece.decay,
            )  # fmt: skip

        return Update(apply, trust=self._trust)

    def _trust(self, weights: float, gradients: float, decay: float) -> float:
        if decay == 0 or weights == 0 or gradients == 0:
            return 1.0
        return self.trust_coefficient * weights / (gradients + self.weight_decay * decay * weights)


@dataclass(frozen=True)
class AdamW:
    """Loshchilov and Hutter 2019, arXiv:1711.05101, as in PyTorch: the weights decay apart from the moments.

    ``m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g * g``; with t steps done
    ``w -= rate * (weight_decay * w + m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + eps))``.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = _USUAL_EPS["adamw"]
    weight_decay: float = 0.0

    moments: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    per_tensor: ClassVar[bool] = False

    def at(self, step: int, rate: float) -> Update:
        """Return the update of a step at a rate."""
        first, root = _corrections(self.betas, step)

        def apply(piece: Piece) -> None:
            own = rate * piece.rate
            adam.adamw(
                piece.weights, piece.gradients, *piece.moments, betas=self.betas, eps=self.eps,
                root=root, step=own * first, shrink=own * self.weight_decay * piece.decay,
            )  # fmt: skip

        return Update(apply)


@dataclass(frozen=True)
class LAMB:
    """You et al. 2020, arXiv:1904.00962: Adam's direction, with a rate that follows the norms of each tensor.

    ``u = m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + eps) + weight_decay * w`` with AdamW's moments;
    ``w -= rate * |w| / |u| * u``. The quotient is 1 where a norm is 0, and for tensors that are exempt from
    weight decay.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = _USUAL_EPS["lamb"]
    weight_decay: float = 0.0

    moments: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    per_tensor: ClassVar[bool] = True

    def at(self, step: int, rate: float) -> Update:
        """Return the update of a step at a rate."""
        first, root = _corrections(self.betas, step)

        def direct(piece: Piece) -> None:
            adam.lamb_direction(
                piece.weights, piece.gradients, *piece.moments, betas=self.betas, eps=self.eps,
                root=root, scale=first, decay=self.weight_decay * piece.decay,
            )  # fmt: skip

        def apply(piece: Piece) -> None:
            steps.descend(piece.weights, piece.gradients, rate=rate * piece.rate * piece.trust)

        return Update(apply, direct, _quotient)


def _quotient(weights: float, direction: float, decay: float) -> float:
    return 1.0 if decay == 0 or weights == 0 or direction == 0 else weights / direction


def _corrections(betas: tuple[float, float], step: int) -> tuple[float, float]:
    """Return what the first moment and the root of the second are multiplied by against their bias."""
    first, second = (one_minus_power(beta, step + 1) for beta in betas)
    return 1 / first, math.sqrt(1 / second)


def optimizer_of(fields: OptimizerFields) -> Optimizer:
    """Return the optimizer that a recipe asks for."""
    eps = fields.eps or _USUAL_EPS.get(fields.kind, 0.0)
    beta1, beta2 = fields.betas
    match fields.kind:
        case "adamw":
            return AdamW((beta1, beta2), eps, fields.weight_decay)
        case "lamb":
            return LAMB((beta1, beta2), eps, fields.weight_decay)
        case "lars":
            return LARS(fields.momentum, fields.weight_decay, fields.trust_coefficient)
        case _:
            return SGD(fields.momentum, fields.nesterov, fields.weight_decay)


def averaging(update: Update, share: float) -> Update:
    """Return an update that also moves the averages of weights by a share of the way to the new weights."""

    def apply(piece: Piece) -> None:
        update.apply(piece)
        assert piece.average is not None
        move(piece.average, piece.weights, share)

    return replace(update, apply=apply)
