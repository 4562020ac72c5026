"""Average pooling."""

from dataclasses import dataclass

from layers.kernels import avg_pool
from layers.layer import Buffers, Context, Layer, Shape
from layers.onnx_form import OnnxForm, OnnxNode
from layers.pooling import pooled_shape, window_size


@dataclass(frozen=True)
class AvgPool(Layer):
    """y[n, c, i, j] = the mean of x over a window.

    Parameters
    ----------
    window : int, (rows, columns) or None
        None is the whole image: global pooling to (C, 1, 1).
    stride : int
    """

    window: int | tuple[int, int] | None = None
    stride: int = 1

    featurewise = True

    def __post_init__(self) -> None:
        if min(*window_size(self.window, (1, 1, 1)), self.stride) < 1:
            raise ValueError(f"{self}: window and stride must be at least 1")

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (C, OH, OW)."""
        (shape,) = inputs
        return pooled_shape(shape, self.window, self.stride)

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return AveragePool; like this layer it leaves out windows that would end outside."""
        kernel = window_size(self.window, inputs[0])
        attributes = {"kernel_shape": kernel, "strides": (self.stride, self.stride)}
        return (OnnxNode("AveragePool", attributes=attributes),)

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        (x,), (y,), window = at.x, at.y, window_size(self.window, at.shapes[0])
        avg_pool.forward(run.threads, x, y, window, self.stride)

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        (dy,), (dx,), window = at.dy, at.dx, window_size(self.window, at.shapes[0])
        avg_pool.backward_data(run.threads, dy, dx, window, self.stride)
