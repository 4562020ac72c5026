"""Rectified linear unit."""

from dataclasses import dataclass

from layers.kernels import relu
from layers.layer import Buffers, Context, Layer, Shape
from layers.onnx_form import OnnxForm, OnnxNode


@dataclass(frozen=True)
class ReLU(Layer):
    """y = max(x, 0); a NaN stays a NaN. The gradient at 0 is 0."""

    reads_y = True
    in_place = True
    featurewise = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the input."""
        (shape,) = inputs
        return shape

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return Relu."""
        return (OnnxNode("Relu"),)

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        relu.forward(run.threads, at.x[0], at.y[0])

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        relu.backward_data(run.threads, at.y[0], at.dy[0], at.dx[0])
