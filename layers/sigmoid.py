"""Logistic sigmoid."""

from dataclasses import dataclass

from layers.kernels import sigmoid
from layers.layer import Buffers, Context, Layer, Shape
from layers.onnx_form import OnnxForm, OnnxNode
from layers.padding import clear_padding


@dataclass(frozen=True)
class Sigmoid(Layer):
    """y = 1 / (1 + exp(-x))."""

    reads_y = True
    in_place = True
    featurewise = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the input."""
        (shape,) = inputs
        return shape

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return Sigmoid."""
        return (OnnxNode("Sigmoid"),)

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        sigmoid.forward(run.threads, at.x[0], at.y[0])
        clear_padding(at.y[0], at.shape)

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        sigmoid.backward_data(run.threads, at.y[0], at.dy[0], at.dx[0])
