"""Group normalisation."""

from dataclasses import dataclass, replace

import numpy as np

from layers import layout
from layers.kernels import batch_norm
from layers.kernels.simd import LANES
from layers.layer import Array, Buffers, Context, Layer, Parameter, Scratch, Shape
from layers.moments import Rows, add_in_order, add_rows, quietly
from layers.onnx_form import OnnxForm, OnnxNode
from layers.work import BACKWARD_WEIGHTS, FORWARD


@dataclass(frozen=True)
class GroupNorm(Layer):
    """y = weight * (x - mean) / sqrt(variance + epsilon) + bias (Wu and He 2018).

    Mean and variance are those of some neighbouring channels of one sample: nothing depends on the minibatch.

    Parameters
    ----------
    groups : int
        Equal runs of channels; 1: all channels together.
    epsilon : float
    """

    groups: int
    epsilon: float = 1e-5

    reads_x = True
    in_place = True

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise ValueError(f"{self}: groups must be at least 1")
        if not self.epsilon > 0:
            raise ValueError(f"{self}: epsilon must be more than 0")

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the input."""
        (shape,) = inputs
        if len(shape) not in (1, 3):
            raise ValueError(f"group normalisation wants images or vectors, got samples of shape {shape}")
        if shape[0] % self.groups:
            raise ValueError(f"groups={self.groups} does not divide {shape[0]} channels")
        return shape

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """Return weight and bias of each channel."""
        by_channel = layout.bias(inputs[0][0])
        return {"weight": replace(by_channel, initial=1.0), "bias": by_channel}

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return memory for the statistics of each sample and channel, and for its sums."""
        shape = samples, 2, layout.blocks(inputs[0][0]) * LANES
        by_sample = Scratch(shape, dtype=np.float64)
        return {"statistics": Scratch(shape, kept=True), "moments": by_sample, "slopes": by_sample}

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return InstanceNormalization of groups of channels, and weight and bias of the channels."""
        (shape,) = inputs
        ones, zeros = np.ones(self.groups, np.float32), np.zeros(self.groups, np.float32)
        apart = {"apart": np.array([0, self.groups, -1])}
        together = {"together": np.array([0, *shape])}
        axes = np.arange(1, len(shape))
        instance = {"ones": ones, "zeros": zeros}
        form = [
            OnnxNode("Reshape", ("x0", "apart"), ("grouped",), constants=apart),
            OnnxNode(
                "InstanceNormalization", ("grouped", "ones", "zeros"), ("normal",),
                attributes={"epsilon": self.epsilon}, constants=instance,
            ),
            OnnxNode("Reshape", ("normal", "together"), ("value",), constants=together),
        ]  # fmt: skip
        names = "weight", "bias"
        if axes.size:
            form += [
                OnnxNode("Unsqueeze", (name, "axes"), (f"{name}_by_channel",), constants={"axes": axes})
                for name in names
            ]
            names = "weight_by_channel", "bias_by_channel"
        form += [OnnxNode("Mul", ("value", names[0]), ("scaled",)), OnnxNode("Add", ("scaled", names[1]))]
        return tuple(form)

    def elementwise_floats(self, direction: str, *inputs: Shape) -> float:
        """Return the floats moved: x is read twice forward, x and dy are read twice backward."""
        return {FORWARD: 3.0, BACKWARD_WEIGHTS: 2.0}.get(direction, 3.0) * float(np.prod(inputs[0]))

    @quietly
    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        (x,), (y,), statistics = at.x, at.y, at.scratch["statistics"]
        moments: Rows = at.scratch["moments"]  # type: ignore[assignment]
        batch_norm.moments(run.threads, x, len(x), moments)
        means, squares = self._grouped(moments[:, 0], at), self._grouped(moments[:, 1], at)
        pixels, each = int(np.prod(at.shape[1:])), means.shape[2]
        mean = add_in_order(means) / each
        off = means - mean[..., None]
        variance = (add_in_order(squares) + pixels * add_in_order(off * off)) / (pixels * each)
        inverse = 1 / np.sqrt(variance + self.epsilon)
        channels = at.shape[0]
        statistics[:, :, channels:] = 0
        statistics[:, 0, :channels] = np.repeat(mean, each, axis=1)
        statistics[:, 1, :channels] = np.repeat(inverse, each, axis=1)
        weight, bias = at.weights["weight"], at.weights["bias"]
        batch_norm.normalise(run.threads, x, statistics, weight, bias, y)

    @quietly
    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Write the gradients of weight and bias: sums over the samples of a leaf, then the tree."""
        if not at.data_first:
            self._sum_slopes(at, run)
        slopes: Rows = at.scratch["slopes"]  # type: ignore[assignment]
        inverse = at.scratch["statistics"][:, 1].astype(np.float64)
        for name, sums in (("weight", slopes[:, 1] * inverse), ("bias", slopes[:, 0])):
            by_leaf = np.moveaxis(sums.reshape(at.leaves, -1, sums.shape[1]), 1, -1)
            at.gradients[name][...] = add_rows(add_in_order(by_leaf).astype(np.float32), at.leaves)[0]

    @quietly
    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        if at.data_first or not at.gradients:
            self._sum_slopes(at, run)
        statistics: Array = at.scratch["statistics"]  # type: ignore[assignment]
        slopes: Rows = at.scratch["slopes"]  # type: ignore[assignment]
        weight = at.weights["weight"].astype(np.float64)
        inverse = statistics[:, 1].astype(np.float64)
        terms = np.zeros((len(inverse), 3, weight.size))
        terms[:, 0] = inverse * weight
        pixels, channels = int(np.prod(at.shape[1:])), at.shape[0]
        for place, sums in ((1, slopes[:, 0] * weight), (2, slopes[:, 1] * weight * inverse * inverse)):
            grouped = self._grouped(sums, at)
            means = add_in_order(grouped) / (pixels * grouped.shape[2])
            terms[:, place, :channels] = np.repeat(means, grouped.shape[2], axis=1)
        terms[:, 1:] *= inverse[:, None]
        held = at.weights["weight"], at.weights["bias"]
        batch_norm.backward_data(
            run.threads, at.x[0], at.dy[0], statistics, terms.astype(np.float32), *held, at.dx[0]
        )

    def _sum_slopes(self, at: Buffers, run: Context) -> None:
        (x,), (dy,), statistics = at.x, at.dy, at.scratch["statistics"]
        held = at.weights["weight"], at.weights["bias"]
        batch_norm.slopes(run.threads, x, dy, len(x), statistics, *held, at.scratch["slopes"])

    def _grouped(self, by_channel: Rows, at: Buffers) -> Rows:
        """Return [samples, groups, channels of a group]."""
        return by_channel[:, : at.shape[0]].reshape(len(by_channel), self.groups, -1)
