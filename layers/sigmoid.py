"""Logistic sigmoid."""

from dataclasses import dataclass

from layers.kernels import sigmoid
from layers.kernels.simd import LANES
from layers.layer import Array, Buffers, Context, Layer, Shape
from layers.onnx_form import OnnxForm, OnnxNode


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
        _clear_padding(at.y[0], at.shape)

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        sigmoid.backward_data(run.threads, at.y[0], at.dy[0], at.dx[0])


def _clear_padding(y: Array, shape: Shape) -> None:
    """Write zeros into the padded lanes, where the kernel has left sigmoid(0) = 1/2."""
    if len(shape) == 1:
        y[:, shape[0] :] = 0
    elif shape[0] % LANES:
        y[:, -1, :, :, shape[0] % LANES :] = 0
