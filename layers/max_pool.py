"""Maximum pooling."""

from dataclasses import dataclass

import numpy as np

from layers.kernels import max_pool
from layers.layer import NO_HALO, Buffers, Context, Layer, Scratch, Shape
from layers.layout import storage_shape
from layers.onnx_form import OnnxForm, OnnxNode
from layers.pooling import pooled_shape, window_size


@dataclass(frozen=True)
class MaxPool(Layer):
    """y[n, c, i, j] = the maximum of x over a window; its gradient goes to the first of equal maxima.

    Parameters
    ----------
    window : int or (rows, columns)
        At most 256 elements.
    stride, padding : int
        Padding never wins; it must be less than the window.
    ceil_mode : bool
        A last window may end outside the padded image, as in the field's older networks.
    """

    window: int | tuple[int, int]
    stride: int
    padding: int = 0
    ceil_mode: bool = False

    featurewise = True

    def __post_init__(self) -> None:
        r, s = window_size(self.window, (1, 1, 1))
        if min(r, s, self.stride) < 1 or not 0 <= self.padding < min(r, s):
            raise ValueError(f"{self}: window and stride must be at least 1, padding less than the window")
        if r * s > 256:
            raise ValueError(f"{self}: a window may have 256 elements, got {r * s}")

    @property
    def is_2x2(self) -> bool:
        """Whether the windows are 2x2 and lie side by side, without padding."""
        return self.window in {2, (2, 2)} and self.stride == 2 and self.padding == 0 and not self.ceil_mode

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (C, OH, OW)."""
        (shape,) = inputs
        return pooled_shape(shape, self.window, self.stride, self.padding, ceil_mode=self.ceil_mode)

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return memory for the place of each maximum, kept for backward_data."""
        shape = storage_shape(self.output_shape(*inputs), samples, NO_HALO)
        return {"argmax": Scratch(shape, np.uint8, kept=True)}

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return MaxPool, whose padding never wins either; it pads as far as the last windows reach."""
        (shape,) = inputs
        window, (_, *counts) = window_size(self.window, shape), self.output_shape(shape)
        behind = [
            max(self.padding, (count - 1) * self.stride + taps - self.padding - size)
            for count, taps, size in zip(counts, window, shape[1:], strict=True)
        ]
        attributes = {
            "kernel_shape": window,
            "strides": (self.stride, self.stride),
            "pads": (self.padding, self.padding, *behind),
        }
        return (OnnxNode("MaxPool", attributes=attributes),)

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        (x,), (y,), window = at.x, at.y, window_size(self.window, at.shapes[0])
        max_pool.forward(run.threads, x, y, at.scratch["argmax"], window, self.stride, self.padding)

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        (dy,), (dx,), window = at.dy, at.dx, window_size(self.window, at.shapes[0])
        max_pool.backward_data(run.threads, dy, at.scratch["argmax"], dx, window, self.stride, self.padding)
