"""Conversion of images to vectors."""

import math
from dataclasses import dataclass

from layers.kernels import flatten
from layers.layer import Buffers, Context, Layer, Shape
from layers.onnx_form import OnnxForm, OnnxNode


@dataclass(frozen=True)
class Flatten(Layer):
    """y[n, (c*H + h)*W + w] = x[n, c, h, w]."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (C*H*W,)."""
        (shape,) = inputs
        if len(shape) != 3:
            raise ValueError(f"flatten wants images (C, H, W), got samples of shape {shape}")
        return (math.prod(shape),)

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return Flatten, whose order is that of C, H, W too."""
        return (OnnxNode("Flatten", attributes={"axis": 1}),)

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        flatten.forward(run.threads, at.x[0], at.y[0], at.shapes[0][0])

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        flatten.backward_data(run.threads, at.dy[0], at.dx[0], at.shapes[0][0])
