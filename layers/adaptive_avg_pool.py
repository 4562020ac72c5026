"""Average pooling to a size, whatever the size of the image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layers.arithmetic import ceil_div
from layers.kernels import adaptive_pool
from layers.layer import Buffers, Context, Layer, Shape
from layers.onnx_form import OnnxForm, OnnxNode


@dataclass(frozen=True)
class AdaptiveAvgPool(Layer):
    """y[n, c, i, j] = the mean of x over rows i*H//OH to ceil((i+1)*H/OH), and columns alike.

    Parameters
    ----------
    size : int or (rows, columns)
        Of the output. 1 is the mean of the whole image: use `GlobalAvgPool` where a vector is wanted.
    """

    size: int | tuple[int, int] = 1

    featurewise = True

    def __post_init__(self) -> None:
        if min(self._size) < 1:
            raise ValueError(f"{self}: size must be at least 1")

    @property
    def _size(self) -> tuple[int, int]:
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (C, OH, OW)."""
        (shape,) = inputs
        if len(shape) != 3:
            raise ValueError(f"pooling wants images (C, H, W), got samples of shape {shape}")
        return shape[0], *self._size

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return AveragePool where all windows are of one size, else products with a matrix for each axis."""
        ((_, height, width),), (rows, columns) = inputs, self._size
        if height % rows == width % columns == 0:
            window = (height // rows, width // columns)
            return (OnnxNode("AveragePool", attributes={"kernel_shape": window, "strides": window}),)
        down, across = _means(height, rows), _means(width, columns).T.copy()
        return (
            OnnxNode("MatMul", ("down", "x0"), ("rows",), constants={"down": down}),
            OnnxNode("MatMul", ("rows", "across"), constants={"across": across}),
        )

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        adaptive_pool.forward(run.threads, at.x[0], at.y[0])

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        adaptive_pool.backward_data(run.threads, at.dy[0], at.dx[0])


def windows(size: int, outputs: int) -> list[tuple[int, int]]:
    """Return where each window along one axis begins and ends."""
    return [(i * size // outputs, ceil_div((i + 1) * size, outputs)) for i in range(outputs)]


def _means(size: int, outputs: int) -> NDArray[np.float32]:
    """Return the matrix [outputs, size] whose product with an axis is the means of its windows."""
    matrix = np.zeros((outputs, size), np.float32)
    for row, (first, end) in zip(matrix, windows(size, outputs), strict=True):
        row[first:end] = 1 / (end - first)
    return matrix
