"""Sum of several values, as in residual networks."""

from dataclasses import dataclass

from layers.kernels import add
from layers.layer import Buffers, Context, Layer, Shape
from layers.onnx_form import OnnxForm, OnnxNode


@dataclass(frozen=True)
class Add(Layer):
    """y = x[0] + x[1] + ..., from left to right."""

    featurewise = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the common shape of the inputs."""
        if len(inputs) < 2 or len(set(inputs)) != 1:
            raise ValueError(f"add wants two or more inputs of one shape, got {', '.join(map(str, inputs))}")
        return inputs[0]

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return one Add for each input but the first."""
        last = len(inputs) - 1
        sums = ["x0", *(f"sum{index}" for index in range(1, last)), "y"]
        return tuple(
            OnnxNode("Add", (sums[index - 1], f"x{index}"), (sums[index],)) for index in range(1, last + 1)
        )

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        add.add_all(run.threads, at.x, at.y[0])

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write each dx."""
        for dx in at.dx:
            add.add_all(run.threads, at.dy, dx)
