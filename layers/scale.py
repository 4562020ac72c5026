"""Product of an image with a vector, as in squeeze and excitation."""

from dataclasses import dataclass

import numpy as np

from layers.kernels import scale
from layers.layer import Buffers, Context, Layer, Shape
from layers.onnx_form import OnnxForm, OnnxNode


@dataclass(frozen=True)
class Scale(Layer):
    """``y[n, c, i, j] = x[0][n, c, i, j] * x[1][n, c]``; Hu et al. 2018 (arXiv:1709.01507, equation 4).

    The second input is a vector (C,), or an image of one pixel (C, 1, 1).
    """

    reads_x = True
    featurewise = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the first input."""
        image = inputs[0]
        if len(inputs) != 2 or len(image) != 3 or inputs[1] not in (image[:1], (image[0], 1, 1)):
            raise ValueError(
                "scale wants an image (C, H, W) and its factors, (C,) or (C, 1, 1), "
                f"got {', '.join(map(str, inputs))}"
            )
        return image

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return Mul, behind a Reshape of a vector to images of one pixel."""
        channels = inputs[0][0]
        shape = np.array([-1, channels, 1, 1], np.int64)
        return (
            OnnxNode("Reshape", ("x1", "shape"), ("factors",), constants={"shape": shape}),
            OnnxNode("Mul", ("x0", "factors")),
        )

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        x, factors = at.x
        scale.forward(run.threads, x, factors, at.y[0])

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write the gradients of the image and of its factors."""
        (x, factors), (dx, dfactors) = at.x, at.dx
        scale.backward_data(run.threads, x, factors, at.dy[0], dx, dfactors)
