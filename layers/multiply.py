"""Product with a constant."""

from dataclasses import dataclass
from math import isfinite

import numpy as np

from layers.kernels import scale
from layers.layer import Buffers, Context, Layer, Shape
from layers.onnx_form import OnnxForm, OnnxNode


@dataclass(frozen=True)
class Multiply(Layer):
    """y = factor * x, with the factor rounded to float32: of logits, one over their temperature.

    Parameters
    ----------
    factor : float
    """

    factor: float

    in_place = True
    featurewise = True

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):
            rounded = np.float32(self.factor)
        if not isfinite(rounded):
            raise ValueError(f"{self}: factor must be a finite float32 number")

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the input."""
        (shape,) = inputs
        return shape

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return Mul."""
        return (OnnxNode("Mul", ("x0", "factor"), constants={"factor": np.array(self.factor, np.float32)}),)

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        scale.multiply(run.threads, at.x[0], self.factor, at.y[0])

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        scale.multiply(run.threads, at.dy[0], self.factor, at.dx[0])
