"""Batch normalisation over groups of leaves."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from layers import layout
from layers.arithmetic import is_power_of_two
from layers.kernels import batch_norm, batch_norm_blocks
from layers.kernels.norm_pixels import ALONE, Behind
from layers.kernels.simd import LANES
from layers.layer import (
    Array,
    Buffers,
    Context,
    Layer,
    Parameter,
    Scratch,
    Shape,
    State,
    has_members_of,
)
from layers.moments import Rows, add_rows, merge_moments, quietly
from layers.onnx_form import OnnxForm, OnnxNode
from layers.work import BACKWARD_WEIGHTS, FORWARD

_PASSES = "forward", "backward_weights", "backward_data", "moments", "normalise", "slopes", "write_dx"


@dataclass(frozen=True)
class BatchNorm(Layer):
    """y = weight * (x - mean) / sqrt(variance + epsilon) + bias, channel by channel (Ioffe and Szegedy 2015).

    In training mean and variance (biased) are those of a group of samples; outside they are the running
    ones. The minibatch is cut into equal groups, aligned runs of leaves, whose moments are merged in the
    order of the tree over leaves: the bits do not depend on who holds which leaf. The running mean and
    variance (unbiased) follow the mean over the groups of a step, by the share `momentum`.

    Parameters
    ----------
    groups : int or None
        Groups of the minibatch, a power of two up to its leaves; None: the recipe's.
    momentum, epsilon : float
    scaled : bool
        Whether there is a weight; else it is 1.
    initial_scale : float
        Of all weights: 0 where a residual block shall begin as its shortcut.
    group_leaves : int
        Leaves of a group, which the engine sets (`engine.graph.passes.norm_groups`): a layer does not know
        how many the minibatch has.
    """

    groups: int | None = None
    momentum: float = 0.1
    epsilon: float = 1e-5
    scaled: bool = True
    initial_scale: float = 1.0
    group_leaves: int = 1

    reads_x = True
    in_place = True

    def __post_init__(self) -> None:
        for groups in (1 if self.groups is None else self.groups, self.group_leaves):
            if type(groups) is not int or not is_power_of_two(groups):
                raise ValueError(f"{self}: groups and group_leaves must be powers of two")
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"{self}: momentum must be at least 0 and at most 1")
        if not self.epsilon > 0:
            raise ValueError(f"{self}: epsilon must be more than 0")

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the input."""
        (shape,) = inputs
        if len(shape) not in (1, 3):
            raise ValueError(f"batch normalisation wants images or vectors, got samples of shape {shape}")
        return shape

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """Return weight and bias of each channel; no weight where the layer is not scaled."""
        by_channel = layout.bias(inputs[0][0])
        weight = {"weight": replace(by_channel, initial=self.initial_scale)} if self.scaled else {}
        return {**weight, "bias": by_channel}

    def state(self, *inputs: Shape) -> dict[str, State]:
        """Return the running mean and variance of each channel."""
        channels = inputs[0][:1]
        return {"running_mean": State(channels), "running_var": State(channels, initial=1.0)}

    def leaf_values(self, *inputs: Shape) -> dict[str, Shape]:
        """Return mean and unbiased variance of the group that a leaf belongs to."""
        channels = inputs[0][:1]
        return {"mean": channels, "variance": channels}

    @quietly
    def update_state(
        self, state: dict[str, Array], leaf_values: Mapping[str, NDArray[np.float64]], step: int
    ) -> None:
        """Move the running statistics towards the mean over the groups: leaves of one have equal rows."""
        for name, noted in (("running_mean", "mean"), ("running_var", "variance")):
            rows = leaf_values[noted]
            mean = add_rows(rows, len(rows))[0] / len(rows)
            state[name][...] = (1 - self.momentum) * state[name].astype(np.float64) + self.momentum * mean

    def leaves_together(self, leaves: int) -> int:
        """Return the leaves of a group."""
        return self.group_leaves

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return memory for the statistics of the groups, and for sums of the leaves."""
        channels = layout.blocks(inputs[0][0]) * LANES
        groups = max(1, leaves // self.group_leaves)
        by_leaf = Scratch((leaves, 2, channels), dtype=np.float64)
        return {
            "statistics": Scratch((groups, 2, channels), kept=True),
            "moments": by_leaf,
            "slopes": by_leaf,
        }

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return BatchNormalization with the running statistics."""
        names = ("x0", "weight", "bias", "running_mean", "running_var")
        constants = {} if self.scaled else {"weight": _ones(inputs[0][0])}
        attributes = {"epsilon": self.epsilon}
        return (OnnxNode("BatchNormalization", names, attributes=attributes, constants=constants),)

    def elementwise_floats(self, direction: str, *inputs: Shape) -> float:
        """Return the floats moved: x is read twice forward, x and dy are read twice backward."""
        floats = float(np.prod(inputs[0]))
        return {FORWARD: 3, BACKWARD_WEIGHTS: 2}.get(direction, 3) * floats

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y, and in training what `update_state` wants to know."""
        if run.training and self._is_by_block(at, run):
            noted = batch_norm_blocks.Noted(at.leaf_values["mean"], at.leaf_values["variance"])
            batch_norm_blocks.forward(
                run.threads, at.x[0], at.leaves, self.group_leaves, self.epsilon, at.scratch["moments"],
                at.scratch["statistics"], noted, *self._parameters(at), at.y[0],
                behind=self._behind, addend=self._addend(at),
            )  # fmt: skip
        elif run.training:
            self.normalise(at, run, self.moments(at, run, self.group_leaves))
        else:
            mean, variance = (_padded(at.state[name], at.shape) for name in ("running_mean", "running_var"))
            self._write_y(at, run, self._statistics(mean[None], variance[None]))

    @quietly
    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Write the gradients of weight and bias, and dx where that is made with them."""
        if self._makes_dx_with_weights(at, run):
            self._write_all_gradients(at, run)
            return
        if not at.data_first:
            self._sum_slopes(at, run)
        sums: Rows = at.scratch["slopes"]  # type: ignore[assignment]
        inverse = at.scratch["statistics"][:, 1].astype(np.float64)
        by_leaf = sums[:, 1] * np.repeat(inverse, at.leaves // len(inverse), axis=0)
        at.gradients["bias"][...] = add_rows(sums[:, 0].astype(np.float32), at.leaves)[0]
        if self.scaled:
            at.gradients["weight"][...] = add_rows(by_leaf.astype(np.float32), at.leaves)[0]

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx, unless `backward_weights` has."""
        if self._makes_dx_with_weights(at, run):
            return
        is_summed = bool(at.gradients) and not at.data_first
        self.write_dx(at, run, self.slopes(at, run, self.group_leaves, is_summed=is_summed))

    @quietly
    def moments(self, at: Buffers, run: Context, leaves: int) -> Rows:
        """Return mean and sum of squared deviations of each run of leaves held here, float64 [runs, 2, C]."""
        moments: Rows = at.scratch["moments"]  # type: ignore[assignment]
        batch_norm.moments(run.threads, at.x[0], at.leaves, moments)
        return merge_moments(moments, values_of_leaf(at), leaves)

    @quietly
    def normalise(self, at: Buffers, run: Context, moments: Rows) -> None:
        """Write y, given the moments of the groups of the samples held here."""
        count = values_of_leaf(at) * self.group_leaves
        mean, squares = moments[:, 0], moments[:, 1]
        for name, noted in (("mean", mean), ("variance", squares / max(1, count - 1))):
            rows = np.repeat(noted[:, : at.shape[0]], at.leaves // len(noted), axis=0)
            at.leaf_values[name][...] = rows
        statistics: Array = at.scratch["statistics"]  # type: ignore[assignment]
        statistics[...] = self._statistics(mean, squares / count)
        self._write_y(at, run, statistics)

    @quietly
    def slopes(self, at: Buffers, run: Context, leaves: int, *, is_summed: bool) -> Rows:
        """Return sums of dy and of dy * (x - mean) over each run of leaves held here, float64 [runs, 2, C].

        `is_summed` where `backward_weights` has added up the leaves before.
        """
        if not is_summed:
            self._sum_slopes(at, run)
        slopes: Rows = at.scratch["slopes"]  # type: ignore[assignment]
        return add_rows(slopes, leaves)

    @quietly
    def write_dx(self, at: Buffers, run: Context, slopes: Rows) -> None:
        """Write dx, given the sums of the groups of the samples held here."""
        statistics: Array = at.scratch["statistics"]  # type: ignore[assignment]
        means = slopes / (values_of_leaf(at) * self.group_leaves)
        inverse = statistics[:, 1].astype(np.float64)
        factor = inverse * self._parameters(at)[0]
        terms = np.stack([factor, factor * means[:, 0], factor * (inverse * inverse) * means[:, 1]], axis=1)
        self._write_dx(at, run, statistics, terms.astype(np.float32))

    def _write_all_gradients(self, at: Buffers, run: Context) -> None:
        """Write the gradients of weight and bias, and dx."""
        groups, _, channels = at.scratch["statistics"].shape
        terms = np.empty((groups, 3, channels), np.float32)
        weight = at.gradients["weight"] if self.scaled else np.empty(channels, np.float32)
        batch_norm_blocks.backward(
            run.threads, at.x[0], at.dy[0], at.leaves, self.group_leaves, at.scratch["statistics"],
            *self._parameters(at), at.scratch["slopes"], at.scratch["moments"], terms,
            (at.gradients["bias"], weight), at.dx[0], behind=self._back, y=self._read_y(at),
            addend_slope=self._addend_slope(at),
        )  # fmt: skip

    def _write_y(self, at: Buffers, run: Context, statistics: Array) -> None:
        """Write y, given the statistics of each group."""
        batch_norm.normalise(
            run.threads, at.x[0], statistics, *self._parameters(at), at.y[0], behind=self._behind,
            addend=self._addend(at),
        )  # fmt: skip

    def _sum_slopes(self, at: Buffers, run: Context) -> None:
        """Write the sums of each leaf that backward passes want."""
        statistics, slopes = at.scratch["statistics"], at.scratch["slopes"]
        batch_norm.slopes(
            run.threads, at.x[0], at.dy[0], at.leaves, statistics, *self._parameters(at), slopes,
            behind=self._back, y=self._read_y(at),
        )  # fmt: skip

    def _write_dx(self, at: Buffers, run: Context, statistics: Array, terms: Array) -> None:
        """Write dx, given the statistics of each group and the terms of its gradient."""
        batch_norm.backward_data(
            run.threads, at.x[0], at.dy[0], statistics, terms, *self._parameters(at), at.dx[0],
            behind=self._back, y=self._read_y(at), addend_slope=self._addend_slope(at),
        )  # fmt: skip

    @property
    def _behind(self) -> Behind:
        """What is done with the normalised values in the same pass."""
        return ALONE

    @property
    def _back(self) -> Behind:
        """What of it is undone in the backward passes."""
        return self._behind

    def _addend(self, at: Buffers) -> Array | None:
        """Return what is added to the normalised values."""
        return None

    def _read_y(self, at: Buffers) -> Array | None:
        """Return y where the backward passes read it."""
        return None

    def _addend_slope(self, at: Buffers) -> Array | None:
        """Return where the gradient of what is added goes."""
        return None

    def _makes_dx_with_weights(self, at: Buffers, run: Context) -> bool:
        """Say whether `backward_weights` writes dx, too: each block of channels while it is in cache."""
        return bool(at.dx and at.gradients) and not at.data_first and self._is_by_block(at, run)

    def _is_by_block(self, at: Buffers, run: Context) -> bool:
        """Say whether all groups are whole here, with enough blocks of channels for the threads."""
        is_whole = at.leaves % self.group_leaves == 0 and _has_its_passes(type(self))
        return is_whole and batch_norm_blocks.suits(layout.blocks(at.shape[0]), run.threads.count)

    def _statistics(self, mean: Rows, variance: Rows) -> Array:
        """Return float32 [groups, 2, C]: means, and what deviations from them are multiplied by."""
        return np.stack([mean, 1 / np.sqrt(variance + self.epsilon)], axis=1).astype(np.float32)

    def _parameters(self, at: Buffers) -> tuple[Array, Array]:
        """Return weight and bias."""
        bias = at.weights["bias"]
        return at.weights["weight"] if self.scaled else _ones(bias.size), bias


@cache
def _has_its_passes(kind: type[BatchNorm]) -> bool:
    return has_members_of(kind, BatchNorm, _PASSES)


def values_of_leaf(at: Buffers) -> int:
    """Return the values of a channel in a leaf."""
    return len(at.samples) // at.leaves * int(np.prod(at.shape[1:]))


def _padded(values: Array, shape: Shape) -> Rows:
    padded = np.zeros(layout.blocks(shape[0]) * LANES)
    padded[: shape[0]] = values
    return padded


@lru_cache
def _ones(count: int) -> Array:
    return np.ones(count, np.float32)
