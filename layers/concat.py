"""Concatenation along channels."""

from dataclasses import dataclass

from layers.kernels import channels
from layers.layer import Buffers, Context, Layer, Shape
from layers.onnx_form import OnnxForm, OnnxNode


@dataclass(frozen=True)
class Concat(Layer):
    """y = the channels of x[0], then those of x[1], ...; features of vectors likewise."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (sum of the channels, H, W), or (sum of the features,)."""
        if len(inputs) < 2 or len({shape[1:] for shape in inputs}) != 1:
            shapes = ", ".join(map(str, inputs))
            raise ValueError(f"concat wants two or more inputs that differ in channels only, got {shapes}")
        return (sum(shape[0] for shape in inputs), *inputs[0][1:])

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return Concat along the channels."""
        names = tuple(f"x{index}" for index in range(len(inputs)))
        return (OnnxNode("Concat", names, attributes={"axis": 1}),)

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        first = 0
        for x, shape in zip(at.x, at.shapes, strict=True):
            channels.copy(run.threads, x, 0, at.y[0], first, shape[0])
            first += shape[0]

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write each dx."""
        first = 0
        for dx, shape in zip(at.dx, at.shapes, strict=True):
            channels.copy(run.threads, at.dy[0], first, dx, 0, shape[0])
            first += shape[0]
