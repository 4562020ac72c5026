"""The mean of an image as a vector."""

from dataclasses import dataclass

from layers.kernels import adaptive_pool
from layers.layer import Buffers, Context, Layer, Shape
from layers.onnx_form import OnnxForm, OnnxNode


@dataclass(frozen=True)
class GlobalAvgPool(Layer):
    """y[n, c] = the mean of x[n, c] over all pixels: what stands between convolutions and a classifier."""

    featurewise = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (C,)."""
        (shape,) = inputs
        if len(shape) != 3:
            raise ValueError(f"pooling wants images (C, H, W), got samples of shape {shape}")
        return (shape[0],)

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return GlobalAveragePool, and Flatten."""
        return (
            OnnxNode("GlobalAveragePool", outputs=("pooled",)),
            OnnxNode("Flatten", ("pooled",), attributes={"axis": 1}),
        )

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        adaptive_pool.forward(run.threads, at.x[0], at.y[0])

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        adaptive_pool.backward_data(run.threads, at.dy[0], at.dx[0])
