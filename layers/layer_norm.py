"""Layer normalisation."""

from dataclasses import dataclass, replace

import numpy as np

from layers import layout
from layers.kernels import layer_norm
from layers.kernels.simd import LANES
from layers.layer import Buffers, Context, Layer, Parameter, Scratch, Shape
from layers.moments import add_rows, quietly
from layers.onnx_form import OnnxForm, OnnxNode
from layers.work import BACKWARD_WEIGHTS, FORWARD


@dataclass(frozen=True)
class LayerNorm(Layer):
    """y = weight * (x - mean) / sqrt(variance + epsilon) + bias (Ba et al. 2016).

    Mean and variance are those of all features of a vector; images have `GroupNorm` with one group.

    Parameters
    ----------
    epsilon : float
    """

    epsilon: float = 1e-5

    reads_x = True
    in_place = True

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"{self}: epsilon must be more than 0")

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the input."""
        (shape,) = inputs
        if len(shape) != 1:
            raise ValueError(
                f"layer normalisation wants vectors, got samples of shape {shape}: images have GroupNorm(1)"
            )
        return shape

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """Return weight and bias of each feature."""
        by_feature = layout.bias(inputs[0][0])
        return {"weight": replace(by_feature, initial=1.0), "bias": by_feature}

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return memory for the statistics of the samples, and for the gradients of the leaves."""
        features = layout.blocks(inputs[0][0]) * LANES
        return {
            "statistics": Scratch((samples, 2), kept=True),
            "sums": Scratch((leaves, 2, features), dtype=np.float64),
        }

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return LayerNormalization, which ONNX has since opset 17."""
        return (
            OnnxNode("LayerNormalization", ("x0", "weight", "bias"), attributes={"epsilon": self.epsilon}),
        )

    def elementwise_floats(self, direction: str, *inputs: Shape) -> float:
        """Return the floats moved: a sample is read from memory once."""
        return {FORWARD: 2.0, BACKWARD_WEIGHTS: 2.0}.get(direction, 3.0) * inputs[0][0]

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        weight, bias = at.weights["weight"], at.weights["bias"]
        layer_norm.forward(
            run.threads, at.x[0], at.shape[0], self.epsilon, weight, bias, at.scratch["statistics"], at.y[0]
        )

    @quietly
    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Write the gradients of weight and bias."""
        sums = at.scratch["sums"]
        layer_norm.backward_weights(run.threads, at.x[0], at.dy[0], at.leaves, at.scratch["statistics"], sums)
        total = add_rows(sums.astype(np.float32), at.leaves)[0]
        at.gradients["weight"][...], at.gradients["bias"][...] = total

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        layer_norm.backward_data(
            run.threads, at.x[0], at.dy[0], at.shape[0], at.weights["weight"], at.scratch["statistics"],
            at.dx[0],
        )  # fmt: skip
