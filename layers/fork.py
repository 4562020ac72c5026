"""Distribution of one value to several readers."""

from dataclasses import dataclass
from math import prod

from layers.kernels import add
from layers.layer import Buffers, Context, Layer, Shape
from layers.onnx_form import OnnxForm, OnnxNode
from layers.work import BACKWARD_DATA


@dataclass(frozen=True)
class Fork(Layer):
    """Hand x to several readers; dx is the sum of their gradients, from left to right.

    All outputs are x itself: `at.y` holds the same array as `at.x`.

    Parameters
    ----------
    joined : int or None
        The reader that adds the gradients of all, one of two: dx is its gradient.
    """

    outputs: int = 2
    joined: int | None = None

    featurewise = True

    def __post_init__(self) -> None:
        if self.outputs < 2:
            raise ValueError(f"{self}: outputs must be at least 2")
        if self.joined is not None and not (self.outputs == 2 and 0 <= self.joined < 2):
            raise ValueError(f"{self}: joined must be one of two outputs")

    @property
    def shared_gradients(self) -> tuple[tuple[int, int], ...]:  # type: ignore[override]
        """The gradient of the reader that adds, which is dx."""
        return () if self.joined is None else ((0, self.joined),)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the input."""
        (shape,) = inputs
        return shape

    def elementwise_floats(self, direction: str, *inputs: Shape) -> float:
        """Return the floats moved: the gradients that are added, and dx."""
        moves = direction == BACKWARD_DATA and self.joined is None
        return (1.0 + self.outputs) * prod(inputs[0]) if moves else 0.0

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return Identity: y is what all readers get."""
        return (OnnxNode("Identity"),)

    def forward(self, at: Buffers, run: Context) -> None:
        """Do nothing: the outputs are the input."""

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx, unless a reader has."""
        if self.joined is None:
            add.add_all(run.threads, at.dy, at.dx[0])
