"""Distribution of one value to several readers."""

from dataclasses import dataclass

from layers.kernels import add
from layers.layer import Buffers, Context, Layer, Shape
from layers.onnx_form import OnnxForm, OnnxNode


@dataclass(frozen=True)
class Fork(Layer):
    """Hand x to several readers; dx is the sum of their gradients, from left to right.

    All outputs are x itself: `at.y` holds the same array as `at.x`.
    """

    outputs: int = 2

    featurewise = True

    def __post_init__(self) -> None:
        if self.outputs < 2:
            raise ValueError(f"{self}: outputs must be at least 2")

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the input."""
        (shape,) = inputs
        return shape

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return Identity: y is what all readers get."""
        return (OnnxNode("Identity"),)

    def forward(self, at: Buffers, run: Context) -> None:
        """Do nothing: the outputs are the input."""

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        add.add_all(run.threads, at.dy, at.dx[0])
