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
from layers.kernels import epilogue, relu
from layers.kernels.epilogue import PLAIN, RECTIFIED, pooled
from layers.layer import NO_HALO, Array, Buffers, Context, Layer, Scratch, Shape
from layers.layout import interior, storage_shape
from layers.max_pool import MaxPool
from layers.onnx_form import OnnxForm, chained
from layers.relu import ReLU
from layers.work import BACKWARD_WEIGHTS
from layers.wrapped import WrappedLayer

WHOLE = "whole_dy"
"""Name of the working memory for the gradient of the convolution's own result."""
ARGMAX = "argmax"
"""Name of the working memory for the taps of the maxima."""


@dataclass(frozen=True)
class _FusedConv2d(WrappedLayer):
    """A convolution and what follows it: the gradient between them lies in shared working memory."""

    conv: Conv2d

    pools: ClassVar[bool] = False
    """2x2 maximum pooling follows."""
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
        whole = storage_shape(self.conv.output_shape(*inputs), samples, self.conv.gradient_halo(*inputs))
        wanted = self.conv.scratch_before(samples, leaves, threads, *inputs, pools=self.pools)
        return wanted | {WHOLE: Scratch(whole)}

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return the convolution and Relu."""
        return chained(self.conv.onnx(*inputs), ReLU().onnx(self.conv.output_shape(*inputs)))

    def elementwise_floats(self, direction: str, *inputs: Shape) -> float:
        """Return the traffic of the gradient between the convolution and what follows."""
        made = direction == BACKWARD_WEIGHTS
        return self.between * math.prod(self.conv.output_shape(*inputs)) if made else 0.0

    def cost_key(self) -> str:
        """Return a text with the kind of fusion and the convolution."""
        return f"{type(self).__name__}(conv={self.conv.cost_key()})"

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        self.conv.data_gradient(at, run, self._whole_dy(at, run, is_made=self._weights_made_it(at)))

    def _weights_made_it(self, at: Buffers) -> bool:
        """Return whether backward_weights has left the gradient of the convolution's own result."""
        return not at.data_first

    def _whole_dy(self, at: Buffers, run: Context, *, is_made: bool) -> Array:
        """Return the gradient of the convolution's own result; write it first unless it is made already."""
        storage, halo = at.scratch[WHOLE], self.conv.gradient_halo(*at.shapes)
        whole: Array = interior(storage, self.conv.output_shape(*at.shapes), halo)  # type: ignore[arg-type]
        if not is_made:
            storage[:, :, :, : halo[0]] = 0  # other layers have used the memory since
            storage[:, :, :, storage.shape[3] - halo[1] :] = 0
            self._write_whole_dy(at, run, whole)
        return whole

    @abstractmethod
    def _write_whole_dy(self, at: Buffers, run: Context, whole: Array) -> None:
        """Write the gradient of the convolution's own result."""


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
        whole = self._whole_dy(at, run, is_made=at.data_first)
        self.conv.weight_gradient(at, run, whole, PLAIN)
        self.conv.bias_gradient(at, run, whole)

    def _write_whole_dy(self, at: Buffers, run: Context, whole: Array) -> None:
        relu.backward_data(run.threads, at.y[0], at.dy[0], whole)


@dataclass(frozen=True)
class Conv2dReLUPool(_FusedConv2d):
    """y = the maxima of 2x2 windows, side by side, of max(conv(x), 0), taken before anything is stored.

    The convolution's own result exists in registers and caches only. A first layer needs no gradient of it
    in memory either; the others have one in working memory that all layers share.
    """

    pools: ClassVar[bool] = True
    between: ClassVar[float] = 1.5  # a quarter of dy and of the taps read, the gradient written

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (out_channels, OH // 2, OW // 2)."""
        channels, rows, columns = self.conv.output_shape(*inputs)
        if rows < 2 or columns < 2:
            raise ValueError(f"a 2x2 window does not fit the convolution's result of {rows}x{columns}")
        return channels, rows // 2, columns // 2

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return the working memory of the convolution, and the taps, kept for the backward pass."""
        taps = storage_shape(self.output_shape(*inputs), samples, NO_HALO)
        wanted = super().scratch(samples, leaves, threads, *inputs)
        return wanted | {ARGMAX: Scratch(taps, np.uint8, kept=True)}

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return the convolution, Relu and MaxPool."""
        pool = MaxPool(2, 2).onnx(self.conv.output_shape(*inputs))
        return chained(super().onnx(*inputs), pool)

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        self.conv.convolve(at, run, pooled(at.scratch[ARGMAX]))

    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Write the gradients of weight and bias."""
        (dy,), argmax = at.dy, at.scratch[ARGMAX]
        if self.conv.bias:
            stack, gradient = at.scratch["bias_stack"], at.gradients["bias"]
            _, *image = self.conv.output_shape(*at.shapes)
            epilogue.bias_gradient(run.threads, dy, argmax, stack, gradient, at.leaves, (image[0], image[1]))
        if self._weights_read_pooled(at):
            self.conv.weight_gradient(at, run, dy, pooled(argmax))
        else:
            self.conv.weight_gradient(at, run, self._whole_dy(at, run, is_made=at.data_first), PLAIN)

    def _weights_read_pooled(self, at: Buffers) -> bool:
        samples_per_leaf = len(at.x[0]) // at.leaves
        return self.conv.algorithm_of(BACKWARD_WEIGHTS, samples_per_leaf, *at.shapes).reads_pooled_dy

    def _weights_made_it(self, at: Buffers) -> bool:
        return not at.data_first and not self._weights_read_pooled(at)

    def _write_whole_dy(self, at: Buffers, run: Context, whole: Array) -> None:
        epilogue.unpool(run.threads, at.dy[0], at.scratch[ARGMAX], whole)
