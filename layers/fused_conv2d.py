"""A convolution and the layers behind it in one: ReLU, and ReLU with 2x2 maximum pooling.

They compute the same bits as the layers one by one, with fewer passes over memory, and keep no value that
nobody else reads. Models are written as plain layers; `engine.graph.passes.fusion` puts these in their place.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from layers.conv2d import Conv2d
from layers.kernels import conv_direct, conv_first, epilogue, relu
from layers.kernels.epilogue import RECTIFIED, pooled
from layers.layer import NO_HALO, Array, Buffers, Context, Layer, Scratch, Shape
from layers.layout import blocks, group, interior, storage_shape
from layers.work import BACKWARD_WEIGHTS
from layers.wrapped import WrappedLayer

WHOLE = "whole_dy"
"""Name in the working memory of the gradient of the convolution's own result."""


@dataclass(frozen=True)
class _FusedConv2d(WrappedLayer):
    """A convolution and what follows it: the gradient between them lies in shared working memory."""

    conv: Conv2d

    between: ClassVar[float]
    """Floats that backward_weights moves elementwise for each element of the convolution's result."""

    @property
    def inner(self) -> Layer:
        """The convolution."""
        return self.conv

    def around(self, layer: Layer) -> Self:
        """Return the same fused behind another convolution."""
        assert isinstance(layer, Conv2d)
        return replace(self, conv=layer)

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return the working memory of the convolution, and the gradient of its own result."""
        wanted = self.conv.scratch(samples, leaves, threads, *inputs)
        whole = storage_shape(self.conv.output_shape(*inputs), samples, self.conv.gradient_halo(*inputs))
        return wanted | {WHOLE: Scratch(whole)}

    def elementwise_floats(self, direction: str, *inputs: Shape) -> float:
        """Return the traffic of the gradient between the convolution and what follows."""
        made = direction == BACKWARD_WEIGHTS
        return self.between * math.prod(self.conv.output_shape(*inputs)) if made else 0.0

    def cost_key(self) -> str:
        """Return a text with the kind of fusion and the convolution."""
        return f"{type(self).__name__}(conv={self.conv.cost_key()})"

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        self.conv.data_gradient(
            at, run, self._make_whole_dy(at, run) if at.data_first else self._whole_dy(at)
        )

    @abstractmethod
    def _make_whole_dy(self, at: Buffers, run: Context) -> Array:
        """Write the gradient of the convolution's own result, and return it."""

    def _whole_dy(self, at: Buffers) -> Array:
        shape, halo = self.conv.output_shape(*at.shapes), self.conv.gradient_halo(*at.shapes)
        return interior(at.scratch[WHOLE], shape, halo)  # type: ignore[arg-type]

    def _cleared_whole_dy(self, at: Buffers) -> Array:
        """Return the same with zeros beside its rows: other layers have used the memory since."""
        storage, (left, right) = at.scratch[WHOLE], self.conv.gradient_halo(*at.shapes)
        storage[:, :, :, :left] = 0
        storage[:, :, :, storage.shape[3] - right :] = 0
        return self._whole_dy(at)


@dataclass(frozen=True)
class Conv2dReLU(_FusedConv2d):
    """y = max(conv(x), 0), rectified when stored."""

    differs: ClassVar[Mapping[str, Any]] = {"reads_y": True}
    between: ClassVar[float] = 3.0  # dy and y read, the gradient written

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        self.conv.convolve(at, run, RECTIFIED)

    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Write the gradients of weight and bias."""
        whole = self._whole_dy(at) if at.data_first else self._make_whole_dy(at, run)
        self.conv.weight_gradient(at, run, whole)
        self.conv.bias_gradient(at, run, whole)

    def _make_whole_dy(self, at: Buffers, run: Context) -> Array:
        whole = self._cleared_whole_dy(at)
        relu.backward_data(run.threads, at.y[0], at.dy[0], whole)
        return whole


@dataclass(frozen=True)
class Conv2dReLUPool(_FusedConv2d):
    """y = the maxima of 2x2 windows, side by side, of max(conv(x), 0), taken before anything is stored.

    The convolution's own result exists in registers and caches only. A first layer needs no gradient of it
    in memory either; the others have one in working memory that all layers share.
    """

    between: ClassVar[float] = 1.5  # a quarter of dy and of the taps read, the gradient written

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (out_channels, OH // 2, OW // 2)."""
        channels, rows, columns = self.conv.output_shape(*inputs)
        if rows < 2 or columns < 2:
            raise ValueError(f"a 2x2 window does not fit the convolution's result of {rows}x{columns}")
        return channels, rows // 2, columns // 2

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return the working memory of the convolution, and the taps, kept for the backward pass."""
        conv, shape = self.conv, self.output_shape(*inputs)
        wanted = {"argmax": Scratch(storage_shape(shape, samples, NO_HALO), np.uint8, kept=True)}
        if conv.pools_by_row(*inputs):
            rows = conv_direct.pooling_rows_shape(2 * shape[2], group(shape[0]), threads)
            wanted["pooling_rows"] = Scratch(rows)
        if conv.unpools_by_row(samples // leaves, *inputs):
            chunk = conv_first.chunk_shape(blocks(shape[0]), conv.kernel_size[1], threads)
            wanted["chunk"] = Scratch(chunk)
        return wanted | super().scratch(samples, leaves, threads, *inputs)  # never touched costs nothing

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        self.conv.convolve(at, run, pooled(at.scratch["argmax"]))

    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Write the gradients of weight and bias."""
        (dy,), argmax = at.dy, at.scratch["argmax"]
        stack, gradient = at.scratch["bias_stack"], at.gradients["bias"]
        epilogue.bias_gradient(run.threads, dy, argmax, stack, gradient, at.leaves)
        if self._unpools_by_row(at, run):
            self.conv.first_weight_gradient(at, run, dy, pooled(argmax))
        else:
            made = self._whole_dy(at) if at.data_first else self._make_whole_dy(at, run)
            self.conv.weight_gradient(at, run, made)

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        if self._unpools_by_row(at, run) and not at.data_first:  # backward_weights has not made it
            self._make_whole_dy(at, run)
        super().backward_data(at, run)

    def _unpools_by_row(self, at: Buffers, run: Context) -> bool:
        return self.conv.unpools_by_row(len(at.x[0]) // at.leaves, *at.shapes)

    def _make_whole_dy(self, at: Buffers, run: Context) -> Array:
        whole = self._cleared_whole_dy(at)
        epilogue.unpool(run.threads, at.dy[0], at.scratch["argmax"], whole)
        return whole
