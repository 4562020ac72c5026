"""Depthwise convolution: a kernel for each channel."""

from dataclasses import dataclass

import numpy as np

from layers import layout
from layers.bias import bias, bias_gradient, onnx_inputs, unused_gradient, weight_and_bias
from layers.convolution.geometry import (
    Padding,
    convolved_size,
    onnx_attributes,
    pads_of,
    pair,
    reach,
)
from layers.kernels import conv_direct, depthwise, depthwise_weights
from layers.kernels.runs import runs_of_leaf
from layers.kernels.simd import LANES
from layers.layer import Array, Buffers, Context, Halo, Layer, Parameter, Scratch, Shape
from layers.onnx_form import OnnxForm, OnnxNode

_SUMS = "weight_sums"


@dataclass(frozen=True)
class DepthwiseConv2d(Layer):
    """y[n, c, i, j] = bias[c] + sum of weight[c, 0, u, v] * x[n, c, i*stride + u*dilation - pad, ...].

    As many channels come out as go in; the weight is that of a convolution with as many groups. Memory bounds
    it, not arithmetic.

    Parameters
    ----------
    kernel : int or (rows, columns)
    stride, dilation : int
    padding : int, (rows, columns) or ((above, below), (left, right))
        Zeros around the image.
    gain : float
        The initial weights have the variance gain / fan_in, which is the size of the kernel.
    bias : bool
        False where a normalisation follows, which would take it off again.
    """

    kernel: int | tuple[int, int]
    stride: int = 1
    padding: Padding = 0
    dilation: int = 1
    gain: float = 2.0
    bias: bool = True

    reads_x = True

    def __post_init__(self) -> None:
        if min(*self.kernel_size, self.stride, self.dilation) < 1 or min(self.pads) < 0:
            raise ValueError(f"{self}: kernel, stride and dilation must be at least 1, padding at least 0")

    @property
    def kernel_size(self) -> tuple[int, int]:
        """Rows and columns of the kernel."""
        return pair(self.kernel)

    @property
    def pads(self) -> tuple[int, int, int, int]:
        """Zeros above, left of, below and right of the image."""
        return pads_of(self.padding)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (C, OH, OW)."""
        (shape,) = inputs
        size = convolved_size(shape, self.kernel_size, self.stride, self.padding, self.dilation)
        return shape[0], *size

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """Return weight [C, 1, R, S] and bias."""
        ((channels, _, _),) = inputs
        weight = _weight(channels, self.kernel_size, self.gain)
        return weight_and_bias(weight, channels, biased=self.bias)

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return room for the sums of the runs of all leaves."""
        ((channels, _, _),) = inputs
        _, *image = self.output_shape(*inputs)
        runs = leaves * runs_of_leaf(samples // leaves, *image)
        sums = depthwise_weights.sums_shape(layout.blocks(channels), self.kernel_size, runs)
        return unused_gradient(channels, biased=self.bias) | {_SUMS: Scratch(sums)}

    def halo(self, *inputs: Shape) -> Halo:
        """Return the columns that the kernel reaches beyond a row of x."""
        ((_, _, width),), (_, _, columns) = inputs, self.output_shape(*inputs)
        _, s = reach(self.kernel_size, self.dilation)
        return conv_direct.halo(width, columns, s, self.stride, self.pads[1])

    def gradient_halo(self, *inputs: Shape) -> Halo:
        """Return the columns that backward_data reaches beyond a row of dy."""
        ((_, _, width),), (_, _, columns) = inputs, self.output_shape(*inputs)
        _, s = reach(self.kernel_size, self.dilation)
        return conv_direct.gradient_halo(width, columns, s, self.stride, self.pads[1])

    def flops(self, *inputs: Shape) -> int:
        """Return the FLOP of one pass over one sample."""
        (channels, rows, columns), (r, s) = self.output_shape(*inputs), self.kernel_size
        return 2 * channels * rows * columns * r * s

    def elementwise_floats(self, direction: str, *inputs: Shape) -> float:
        """Return the floats read and written for one sample: x and y, or their gradients, in every pass."""
        ((channels, height, width),), (_, rows, columns) = inputs, self.output_shape(*inputs)
        return channels * (height * width + rows * columns)

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return Conv with as many groups as channels."""
        attributes = onnx_attributes(self.kernel_size, self.stride, self.padding, self.dilation)
        attributes["group"] = inputs[0][0]
        return (OnnxNode("Conv", onnx_inputs(biased=self.bias), attributes=attributes),)

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        weight, pads = at.weights["weight"], self.pads[:2]
        depthwise.forward(run.threads, at.x[0], weight, bias(at), at.y[0], self.stride, self.dilation, pads)

    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Write the gradients of weight and bias."""
        depthwise_weights.backward_weights(
            run.threads, at.x[0], at.dy[0], at.scratch[_SUMS], at.gradients["weight"], bias_gradient(at),
            self.stride, self.dilation, self.pads[:2], at.leaves,
        )  # fmt: skip

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        weight, pads = at.weights["weight"], self.pads[:2]
        depthwise.backward_data(run.threads, at.dy[0], weight, at.dx[0], self.stride, self.dilation, pads)


def _weight(channels: int, kernel: tuple[int, int], gain: float) -> Parameter:
    """Describe the weights: [C, 1, R, S] stored as ``[C/LANES, R, S, LANES]``."""
    r, s = kernel
    blocks = layout.blocks(channels)

    def pack(standard: Array, out: Array) -> None:
        padded = np.zeros((len(out) * LANES, r, s), np.float32)
        padded[: len(standard)] = standard[:, 0]
        out[...] = padded.reshape(len(out), LANES, r, s).transpose(0, 2, 3, 1)

    def unpack(stored: Array) -> Array:
        padded = stored.transpose(0, 3, 1, 2).reshape(blocks * LANES, 1, r, s)
        return np.ascontiguousarray(padded[:channels])

    shape = (channels, 1, r, s)
    return Parameter(shape, (blocks, r, s, LANES), pack, unpack, gain / (r * s), block_rows=LANES)
