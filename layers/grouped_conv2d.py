"""Grouped convolution: each run of input channels makes a run of output channels by itself."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from layers import layout
from layers.bias import weight_and_bias
from layers.conv2d import Conv2d
from layers.convolution.geometry import Padding, pads_of
from layers.kernels.simd import LANES
from layers.layer import Array, Buffers, Context, Halo, Layer, Parameter, Scratch, Shape
from layers.onnx_form import OnnxForm, OnnxNode
from layers.work import Extents


@dataclass(frozen=True)
class GroupedConv2d(Layer):
    """y of group g = the convolution of x's channels of group g with the weights of group g.

    Groups whose channels fill whole vectors run as convolutions on slices of the channels. Narrower ones are
    put together until they do, or all of them: their weights are then the diagonal of a larger convolution's,
    whose other weights are zeros and stay so. That costs as many times the arithmetic as there are groups put
    together; `DepthwiseConv2d` is the layer for groups of one channel.

    Parameters
    ----------
    out_channels, groups : int
        Both numbers of channels must be multiples of `groups`.
    kernel, stride, padding, gain, algorithm, bias, dilation
        As in `Conv2d`.
    """

    out_channels: int
    kernel: int | tuple[int, int]
    groups: int
    stride: int = 1
    padding: Padding = 0
    gain: float = 2.0
    algorithm: str = "auto"
    bias: bool = True
    dilation: int = 1

    reads_x = True

    def __post_init__(self) -> None:
        if self.groups < 1 or self.out_channels % self.groups:
            raise ValueError(
                f"groups: got {self.groups}; must be at least 1 and divide out_channels={self.out_channels}"
            )
        self._convolution(self.out_channels)  # says what is wrong with the others

    @property
    def pads(self) -> tuple[int, int, int, int]:
        """Zeros above, left of, below and right of the image."""
        return pads_of(self.padding)

    def _convolution(self, out_channels: int) -> Conv2d:
        return Conv2d(
            out_channels,
            self.kernel,
            self.stride,
            self.padding,
            self.gain,
            self.algorithm,
            bias=self.bias,
            dilation=self.dilation,
        )

    def _cut(self, shape: Shape) -> "_Cut":
        channels, out_channels = shape[0] // self.groups, self.out_channels // self.groups
        return _Cut(self.groups, together(self.groups, channels, out_channels), channels, out_channels)

    def _part(self, shape: Shape) -> tuple[Conv2d, Shape]:
        """Return the convolution of the groups that are put together, and what it reads."""
        cut = self._cut(shape)
        return self._convolution(cut.together * cut.out_channels), (cut.together * cut.channels, *shape[1:])

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (out_channels, OH, OW)."""
        (shape,) = inputs
        if len(shape) == 3 and shape[0] % self.groups:
            raise ValueError(f"groups={self.groups} does not divide the {shape[0]} channels of the input")
        return self._convolution(self.out_channels).output_shape(shape)

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """Return weight [out_channels, C / groups, R, S] and bias."""
        (shape,) = inputs
        conv, part = self._part(shape)
        weight = _weight(self._cut(shape), conv.parameters(part)["weight"], self.gain)
        return weight_and_bias(weight, self.out_channels, biased=self.bias)

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return the working memory of one part: they take turns."""
        conv, part = self._part(*inputs)
        wanted = conv.scratch(samples, leaves, threads, part)
        return {name: replace(scratch, of_weights=False) for name, scratch in wanted.items()}

    def halo(self, *inputs: Shape) -> Halo:
        """Return that of a part."""
        conv, part = self._part(*inputs)
        return conv.halo(part)

    def gradient_halo(self, *inputs: Shape) -> Halo:
        """Return that of a part."""
        conv, part = self._part(*inputs)
        return conv.gradient_halo(part)

    def extents(self, *inputs: Shape) -> Extents:
        """Return the extents of the loops over all groups."""
        return replace(self._convolution(self.out_channels).extents(*inputs), groups=self.groups)

    def is_winograd(self, direction: str, samples_per_leaf: int, *inputs: Shape) -> bool:
        """Return whether the parts use Winograd's algorithm."""
        conv, part = self._part(*inputs)
        return conv.is_winograd(direction, samples_per_leaf, part)

    def executed_flops(self, direction: str, samples: int, leaves: int, *inputs: Shape) -> int:
        """Return the FLOP of the multiply-adds of all parts, those with zeros between groups among them."""
        conv, part = self._part(*inputs)
        return self._cut(*inputs).parts * conv.executed_flops(direction, samples, leaves, part)

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return Conv with groups."""
        (conv,) = self._convolution(self.out_channels).onnx(*inputs)
        return (OnnxNode("Conv", conv.inputs, attributes={**conv.attributes, "group": self.groups}),)

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        for conv, part in self._each(at):
            conv.forward(part, run)

    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Write the gradients of weight and bias."""
        for conv, part in self._each(at):
            conv.backward_weights(part, run)
        _clear_between_groups(self._cut(at.shapes[0]), at.gradients["weight"])

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        for conv, part in self._each(at):
            conv.backward_data(part, run)

    def _each(self, at: Buffers) -> Iterator[tuple[Conv2d, Buffers]]:
        """Yield the convolution of each part, and its buffers: slices of the channels."""
        (shape,), (conv, inner) = at.shapes, self._part(*at.shapes)
        read, written = layout.blocks(inner[0]), layout.blocks(conv.out_channels)
        for index in range(self._cut(shape).parts):
            of_x = np.s_[:, index * read : (index + 1) * read]
            of_y = np.s_[:, index * written : (index + 1) * written]
            bias = np.s_[index * written * LANES : (index + 1) * written * LANES]

            def of_part(arrays: dict[str, Array], index: int = index, bias: slice = bias) -> dict[str, Array]:
                return {
                    name: array[index] if name == "weight" else array[bias] for name, array in arrays.items()
                }

            yield (
                conv,
                replace(
                    at,
                    shapes=(inner,),
                    shape=(conv.out_channels, *at.shape[1:]),
                    x=(at.x[0][of_x],),
                    y=(at.y[0][of_y],),
                    dx=tuple(dx[of_x] for dx in at.dx),
                    dy=tuple(dy[of_y] for dy in at.dy),
                    weights=of_part(at.weights),
                    gradients=of_part(at.gradients),
                    prepared=False,
                ),
            )


@dataclass(frozen=True)
class _Cut:
    """How groups are put together; channels are those of one group."""

    groups: int
    together: int
    channels: int
    out_channels: int

    @property
    def parts(self) -> int:
        """Convolutions that make up the layer."""
        return self.groups // self.together


def together(groups: int, channels: int, out_channels: int) -> int:
    """Return how many groups make one convolution: the fewest whose channels fill whole vectors, or all."""
    fitting = (
        number
        for number in range(1, groups)
        if groups % number == 0 and number * channels % LANES == number * out_channels % LANES == 0
    )
    return next(fitting, groups)


def _weight(cut: _Cut, inner: Parameter, gain: float) -> Parameter:
    """Describe the weights: stored as those of each part, zeros between its groups."""
    _, _, r, s = inner.shape
    shape = (cut.groups * cut.out_channels, cut.channels, r, s)
    rows = cut.together * cut.out_channels

    def pack(standard: Array, out: Array) -> None:
        for part in range(cut.parts):
            dense = np.zeros(inner.shape, np.float32)
            _diagonal(cut, dense)[...] = standard[part * rows : (part + 1) * rows].reshape(
                cut.together, cut.out_channels, cut.channels, r, s
            )
            inner.pack(dense, out[part])

    def unpack(stored: Array) -> Array:
        parts = [_diagonal(cut, inner.unpack(part)).reshape(rows, cut.channels, r, s) for part in stored]
        return np.concatenate(parts)

    return Parameter(shape, (cut.parts, *inner.blocked), pack, unpack, gain / (cut.channels * r * s))


def _diagonal(cut: _Cut, dense: Array) -> Array:
    """View the weights of the groups in those of a part: [together, out_channels, channels, R, S]."""
    down, across = cut.out_channels * dense.strides[0], cut.channels * dense.strides[1]
    shape = (cut.together, cut.out_channels, cut.channels, *dense.shape[2:])
    return np.lib.stride_tricks.as_strided(dense, shape, (down + across, *dense.strides))


def _clear_between_groups(cut: _Cut, gradient: Array) -> None:
    """Write zeros where a part has weights between its groups, which no group has."""
    if cut.together > 1:
        for part in gradient:
            # No product with 0: what has overflowed between groups would stay.
            np.copyto(part, 0, where=_between_groups(cut, part.shape))


@lru_cache(maxsize=64)
def _between_groups(cut: _Cut, blocked: Shape) -> NDArray[np.bool_]:
    """Return where a part's stored weights belong to no group."""
    dense = np.zeros((cut.together * cut.out_channels, cut.together * cut.channels, 1, 1), np.float32)
    _diagonal(cut, dense)[...] = 1
    stored = layout.conv_weight(dense.shape, 1.0)
    ones = np.empty(stored.blocked, np.float32)
    stored.pack(dense, ones)
    assert blocked[:2] == ones.shape[:2]
    outside: NDArray[np.bool_] = ones == 0
    return outside
