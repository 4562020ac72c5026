"""Activations beside ReLU and the sigmoid: GELU, SiLU, hard-swish, hard-sigmoid and ReLU6."""

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np

from layers.kernels import activations
from layers.layer import Buffers, Context, Layer, Shape
from layers.onnx_form import OnnxForm, OnnxNode
from layers.padding import clear_padding


@dataclass(frozen=True)
class _Activation(Layer):
    """One function of each element.

    Where its value tells the gradient, y may lie over x. The others read x again, and make of it anew what
    they would else have to keep.
    """

    kind: ClassVar[int]
    featurewise = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the input."""
        (shape,) = inputs
        return shape

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        activations.forward(run.threads, self.kind, at.x[0], at.y[0])

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        seen = at.x[0] if self.reads_x else at.y[0]
        activations.backward_data(run.threads, self.kind, seen, at.dy[0], at.dx[0])


@dataclass(frozen=True)
class GELU(_Activation):
    """y = x * P(a normal number < x), by erf, not tanh; Hendrycks and Gimpel 2016 (arXiv:1606.08415).

    Errors are within 4e-7 of the larger of |x| and 1, forward and backward.
    """

    kind = activations.GELU
    reads_x = True

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return x * (Erf(x / sqrt(2)) + 1) / 2."""
        root, one, half = (np.array(value, np.float32) for value in (sqrt(2), 1, 0.5))
        return (
            OnnxNode("Div", ("x0", "root"), ("scaled",), constants={"root": root}),
            OnnxNode("Erf", ("scaled",), ("erf",)),
            OnnxNode("Add", ("erf", "one"), ("raised",), constants={"one": one}),
            OnnxNode("Mul", ("x0", "raised"), ("doubled",)),
            OnnxNode("Mul", ("doubled", "half"), constants={"half": half}),
        )


@dataclass(frozen=True)
class SiLU(_Activation):
    """y = x / (1 + exp(-x)), also called swish; Ramachandran et al. 2017 (arXiv:1710.05941)."""

    kind = activations.SILU
    reads_x = True

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return x * Sigmoid(x)."""
        return OnnxNode("Sigmoid", outputs=("sigmoid",)), OnnxNode("Mul", ("x0", "sigmoid"))


@dataclass(frozen=True)
class HardSwish(_Activation):
    """y = x * clip(x + 3, 0, 6) / 6; Howard et al. 2019 (arXiv:1905.02244, section 5.2)."""

    kind = activations.HARD_SWISH
    reads_x = True

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return x * HardSigmoid(x)."""
        (sigmoid,) = HardSigmoid().onnx(*inputs)
        return (
            OnnxNode(sigmoid.kind, outputs=("sigmoid",), attributes=sigmoid.attributes),
            OnnxNode("Mul", ("x0", "sigmoid")),
        )


@dataclass(frozen=True)
class HardSigmoid(_Activation):
    """y = clip(x + 3, 0, 6) / 6. The gradient at both ends is 0."""

    kind = activations.HARD_SIGMOID
    reads_y = True
    in_place = True

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return HardSigmoid."""
        return (OnnxNode("HardSigmoid", attributes={"alpha": 1 / 6, "beta": 0.5}),)

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        super().forward(at, run)
        clear_padding(at.y[0], at.shape)


@dataclass(frozen=True)
class ReLU6(_Activation):
    """y = clip(x, 0, 6); a NaN stays a NaN. The gradient at both ends is 0."""

    kind = activations.RELU6
    reads_y = True
    in_place = True

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return Clip."""
        bounds = {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}
        return (OnnxNode("Clip", ("x0", "low", "high"), constants=bounds),)
