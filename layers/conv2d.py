"""Two-dimensional convolution."""

from dataclasses import dataclass, replace
from typing import Any, Self

from layers import layout, work
from layers.kernels import add, conv_direct, conv_first, conv_winograd, conv_winograd_weights, winograd_tiles
from layers.kernels.conv_algorithm import (
    backward_weights_is_winograd,
    feature_leaf,
    forward_is_winograd,
    winograd_outputs,
)
from layers.kernels.epilogue import PLAIN, Epilogue
from layers.kernels.leaves import stack_depth
from layers.kernels.simd import LANES
from layers.kernels.winograd_transforms import POINTS
from layers.layer import NO_HALO, Array, Buffers, Context, Halo, Layer, Parameter, Scratch, Shape, wider
from layers.work import Extents

ALGORITHMS = ("auto", "direct")


@dataclass(frozen=True)
class Conv2d(Layer):
    """y[n, k, i, j] = bias[k] + sum over c, u, v of x[n, c, i*stride + u - pad, ...] * weight[k, c, u, v].

    Parameters
    ----------
    out_channels : int
    kernel, padding : int or (rows, columns)
    stride : int
    gain : float
        The initial weights have the variance gain / fan_in: 2 suits ReLU (He et al. 2015).
    algorithm : str
        "auto": for each pass Winograd where it gains, else direct; "direct": never Winograd.
    feature_leaves : int
        A power of two: into how many equal runs of output channels backward_data cuts its sum, where they
        divide that far; the sums of these feature leaves are added as a tree.
    parts : int
        How many layers like this one, each with `out_channels` of its own, make the whole layer.
    """

    out_channels: int
    kernel: int | tuple[int, int]
    stride: int = 1
    padding: int | tuple[int, int] = 0
    gain: float = 2.0
    algorithm: str = "auto"
    feature_leaves: int = 1
    parts: int = 1

    reads_x = True

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm: got {self.algorithm!r}; must be one of {', '.join(ALGORITHMS)}")
        if min(*self.kernel_size, self.stride, self.out_channels) < 1 or min(self._padding) < 0:
            raise ValueError(f"{self}: channels, kernel and stride must be at least 1, padding at least 0")
        if self.feature_leaves < 1 or self.feature_leaves & (self.feature_leaves - 1):
            raise ValueError(f"{self}: feature_leaves must be a power of two")

    @property
    def kernel_size(self) -> tuple[int, int]:
        """Rows and columns of the kernel."""
        return _pair(self.kernel)

    @property
    def _padding(self) -> tuple[int, int]:
        return _pair(self.padding)

    @property
    def _whole_channels(self) -> int:
        """Output channels of the whole layer: what follows from its shape must not depend on the parts."""
        return self.parts * self.out_channels

    @property
    def _feature_leaf(self) -> int:
        return feature_leaf(self._whole_channels, self.feature_leaves)

    def shard(self, parts: int) -> tuple[Self, ...]:
        """Return the layers of `parts` equal runs of feature leaves."""
        channels = self.out_channels
        most = channels // feature_leaf(channels, channels)
        if most % parts:
            raise ValueError(
                f"out_channels={channels} has no {parts} runs of whole vectors of {LANES} channels; must be "
                f"a power of two up to {most}"
            )
        if self.feature_leaves % parts:
            raise ValueError(
                f"conv_feature_leaves={self.feature_leaves} is less than the {parts} parts; must be at least "
                f"{parts}"
            )
        return (replace(self, out_channels=channels // parts, parts=parts),) * parts

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (out_channels, OH, OW)."""
        (shape,) = inputs
        if len(shape) != 3:
            raise ValueError(f"a convolution wants images (C, H, W), got samples of shape {shape}")
        (r, s), (pad_h, pad_w) = self.kernel_size, self._padding
        rows, columns = shape[1] + 2 * pad_h - r, shape[2] + 2 * pad_w - s
        if rows < 0 or columns < 0:
            raise ValueError(
                f"a {r}x{s} kernel does not fit an image of {shape[1]}x{shape[2]} with {pad_h, pad_w} padding"
            )
        return self.out_channels, rows // self.stride + 1, columns // self.stride + 1

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """Return weight (OIHW) and bias."""
        ((channels, _, _),) = inputs
        return {
            "weight": layout.conv_weight((self.out_channels, channels, *self.kernel_size), self.gain),
            "bias": layout.bias(self.out_channels),
        }

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return room for the weights transposed, for partial sums, and for what Winograd transforms."""
        ((channels, height, width),) = inputs
        _, rows, columns = self.output_shape(*inputs)
        transposed = layout.conv_weight((channels, self._feature_leaf, *self.kernel_size), self.gain).blocked
        k_blocks, c_blocks = layout.blocks(self.out_channels), layout.blocks(channels)
        partial_dxs = stack_depth(self.out_channels // self._feature_leaf) - 1  # beside dx itself
        shapes = {
            "transposed": transposed,
            "bias_stack": (threads, stack_depth(leaves), LANES),
            "data_stack": (partial_dxs, *layout.storage_shape(inputs[0], samples, NO_HALO)),
        }
        outputs = winograd_outputs(self.kernel_size, self.stride)
        if self._forward_is_winograd(*inputs):
            total = _tiles(samples, rows, columns, outputs)
            shapes |= _named(
                FORWARD, conv_winograd.scratch_shapes(c_blocks, k_blocks, total, threads, outputs)
            )
        if self._backward_data_is_winograd(*inputs):
            total = _tiles(samples, height, width, outputs)
            shapes |= _named(
                BACKWARD,
                conv_winograd.scratch_shapes(
                    layout.blocks(self._feature_leaf), c_blocks, total, threads, outputs
                ),
            )
        if self._backward_weights_is_winograd(samples // leaves, *inputs):
            shapes |= conv_winograd_weights.scratch_shapes(
                c_blocks, k_blocks, self.kernel_size[0], leaves, threads
            )
        elif conv_first.applies(channels, self.kernel_size[1]):
            shapes["partials"] = conv_first.partials_shape(k_blocks, channels, self.kernel_size, leaves)
        else:
            shapes["weight_stack"] = conv_direct.weight_stack_shape(
                k_blocks, c_blocks, channels, self.kernel_size, leaves, threads
            )
        shapes["zeros"] = (max(c_blocks, POINTS) * LANES,)
        return {name: Scratch(shape) for name, shape in shapes.items()}

    def _forward_is_winograd(self, *inputs: Shape) -> bool:
        _, rows, columns = self.output_shape(*inputs)
        channels = inputs[0][0], self._whole_channels
        return self.algorithm == "auto" and forward_is_winograd(
            *channels, self.kernel_size, self.stride, rows, columns
        )

    def _backward_data_is_winograd(self, *inputs: Shape) -> bool:
        channels, height, width = inputs[0]
        reachable = max(self._padding) < min(self.kernel_size)  # else dx has windows that begin beyond dy
        return (
            self.algorithm == "auto"
            and reachable
            and forward_is_winograd(
                self._feature_leaf, channels, self.kernel_size, self.stride, height, width
            )
        )

    def _backward_weights_is_winograd(self, samples_per_leaf: int, *inputs: Shape) -> bool:
        _, rows, columns = self.output_shape(*inputs)
        channels = inputs[0][0], self._whole_channels
        return self.algorithm == "auto" and backward_weights_is_winograd(
            *channels, self.kernel_size, self.stride, rows, columns, samples_per_leaf
        )

    def halo(self, *inputs: Shape) -> Halo:
        """Return the columns that the kernel, or a Winograd window, reaches beyond a row of x."""
        width, columns, taps, _, padding = self._columns(*inputs)
        halo = conv_direct.halo(width, columns, taps, self.stride, padding)
        outputs = winograd_outputs(self.kernel_size, self.stride)
        return wider(halo, conv_winograd.halo(width, columns, outputs, padding)) if outputs else halo

    def gradient_halo(self, *inputs: Shape) -> Halo:
        """Return the columns that backward_data, or a Winograd window, reaches beyond a row of dy."""
        width, columns, taps, _, padding = self._columns(*inputs)
        halo = conv_direct.gradient_halo(width, columns, taps, self.stride, padding)
        outputs = winograd_outputs(self.kernel_size, self.stride)
        if outputs == 0:
            return halo
        back = conv_winograd.halo(columns, width, outputs, max(0, taps - 1 - padding))
        return wider(wider(halo, back), conv_winograd_weights.gradient_halo(columns, outputs))

    def _columns(self, *inputs: Shape) -> tuple[int, int, int, int, int]:
        return inputs[0][2], self.output_shape(*inputs)[2], self.kernel_size[1], self.stride, self._padding[1]

    def extents(self, *inputs: Shape) -> Extents:
        """Return the extents of the loops over maps, kernel and pixels."""
        ((channels, height, width),) = inputs
        _, rows, columns = self.output_shape(*inputs)
        return Extents(
            channels, self.out_channels, *self.kernel_size, rows, columns, height, width, self.stride,
            self._padding,
        )  # fmt: skip

    def is_winograd(self, direction: str, samples_per_leaf: int, *inputs: Shape) -> bool:
        """Return whether a pass uses Winograd's algorithm: a function of the shapes and the leaf alone."""
        if direction == work.FORWARD:
            return self._forward_is_winograd(*inputs)
        if direction == work.BACKWARD_DATA:
            return self._backward_data_is_winograd(*inputs)
        return self._backward_weights_is_winograd(samples_per_leaf, *inputs)

    def executed_flops(self, direction: str, samples: int, leaves: int, *inputs: Shape) -> int:
        """Return the FLOP of the multiply-adds that the kernels of a pass execute.

        Winograd F(M x M, R x R) executes (M + R - 1)^2 multiply-adds a tile of M x M outputs, incomplete
        tiles as whole ones; its transforms, a few additions a value, are not counted.
        """
        if not self.is_winograd(direction, samples // leaves, *inputs):
            return samples * self.flops(*inputs)
        channels, *size = inputs[0]
        rows, columns = size if direction == work.BACKWARD_DATA else self.output_shape(*inputs)[1:]
        total = _tiles(samples, rows, columns, winograd_outputs(self.kernel_size, self.stride))
        return 2 * total * POINTS * POINTS * channels * self.out_channels

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        self.convolve(at, run, PLAIN)

    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Write the gradients of weight and bias."""
        (dy,) = at.dy
        self.weight_gradient(at, run, dy)
        self.bias_gradient(at, run, dy)

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        self.data_gradient(at, run, at.dy[0])

    def convolve(self, at: Buffers, run: Context, epilogue: Epilogue) -> None:
        """Write y as the epilogue leaves it; with one that pools, scratch has ``pooling_rows`` for it."""
        (x,), (y,), channels = at.x, at.y, at.shapes[0][0]
        weight, bias = at.weights["weight"], at.weights["bias"]
        if self._forward_is_winograd(*at.shapes):
            outputs, scratch = winograd_outputs(self.kernel_size, self.stride), _of(FORWARD, at.scratch)
            zeros = _cleared(at.scratch["zeros"])
            conv_winograd.forward(
                run.threads, x, weight, bias, y, scratch, zeros, outputs, self._padding,
                flip=False, epilogue=epilogue,
            )  # fmt: skip
        else:
            rows = at.scratch.get("pooling_rows", conv_direct.NO_ROWS)
            conv_direct.forward(
                run.threads, x, weight, bias, y, channels, self.stride, self._padding,
                epilogue=epilogue, pooling_rows=rows,
            )  # fmt: skip

    def pools_by_row(self, *inputs: Shape) -> bool:
        """Return whether `convolve` wants ``pooling_rows`` for an epilogue that pools."""
        return not self._forward_is_winograd(*inputs)

    def weight_gradient(self, at: Buffers, run: Context, dy: Array) -> None:
        """Write the gradient of weight from that of the convolution's result, with `gradient_halo`."""
        (x,), channels, gradient = at.x, at.shapes[0][0], at.gradients["weight"]
        if self._backward_weights_is_winograd(len(x) // at.leaves, *at.shapes):
            outputs, zeros = winograd_outputs(self.kernel_size, self.stride), _cleared(at.scratch["zeros"])
            conv_winograd_weights.backward_weights(
                run.threads, x, dy, gradient, at.scratch, zeros, outputs, self._padding, at.leaves
            )
        elif conv_first.applies(channels, self.kernel_size[1]):
            self.first_weight_gradient(at, run, dy, PLAIN)
        else:
            conv_direct.backward_weights(
                run.threads, x, dy, at.scratch["weight_stack"], gradient, channels, self.stride,
                self._padding, at.leaves,
            )  # fmt: skip

    def bias_gradient(self, at: Buffers, run: Context, dy: Array) -> None:
        """Write the gradient of bias from that of the convolution's result."""
        conv_direct.bias_gradient(run.threads, dy, at.scratch["bias_stack"], at.gradients["bias"], at.leaves)

    def unpools_by_row(self, samples_per_leaf: int, *inputs: Shape) -> bool:
        """Return whether `first_weight_gradient` computes the layer, so that dy may be a pooled one."""
        return not self._backward_weights_is_winograd(samples_per_leaf, *inputs) and conv_first.applies(
            inputs[0][0], self.kernel_size[1]
        )

    def first_weight_gradient(self, at: Buffers, run: Context, dy: Array, epilogue: Epilogue) -> None:
        """Write the gradient of a first layer's weight; with an epilogue that pools, from the pooled dy."""
        chunk = at.scratch.get("chunk", conv_first.NO_ROWS)
        conv_first.backward_weights(
            run.threads, at.x[0], dy, at.scratch["partials"], at.gradients["weight"], self.stride,
            self._padding, epilogue=epilogue, chunk=chunk,
        )  # fmt: skip

    def data_gradient(self, at: Buffers, run: Context, dy: Array) -> None:
        """Write dx from the gradient of the convolution's result, with `gradient_halo`."""
        partial_dxs = [at.dx[0], *at.scratch["data_stack"]]
        blocks, top = layout.blocks(self._feature_leaf), 0
        for leaf, first in enumerate(range(0, dy.shape[1], blocks)):
            self._leaf_gradient(at, run, dy[:, first : first + blocks], first, partial_dxs[top])
            top = add.tree_add(run.threads, partial_dxs, top, leaf)

    def _leaf_gradient(self, at: Buffers, run: Context, dy: Array, first_block: int, dx: Array) -> None:
        """Write what a feature leaf, which begins with a block of output channels, adds to dx."""
        transposed = at.scratch["transposed"]
        conv_direct.transpose_weights(run.threads, at.weights["weight"], transposed, first_block)
        if self._backward_data_is_winograd(*at.shapes):
            outputs, scratch = winograd_outputs(self.kernel_size, self.stride), _of(BACKWARD, at.scratch)
            zeros = _cleared(at.scratch["zeros"])
            padding = self.kernel_size[0] - 1 - self._padding[0], self.kernel_size[1] - 1 - self._padding[1]
            conv_winograd.forward(
                run.threads, dy, transposed, zeros, dx, scratch, zeros, outputs, padding, flip=True
            )
        else:
            conv_direct.backward_data(run.threads, dy, transposed, dx, self.stride, self._padding)


FORWARD, BACKWARD = "forward ", "backward "
"""Prefixes of the scratch arrays of two passes."""


def _named(prefix: str, shapes: dict[str, Shape]) -> dict[str, Shape]:
    return {prefix + name: shape for name, shape in shapes.items()}


def _of(prefix: str, scratch: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): array for name, array in scratch.items() if name.startswith(prefix)}


def _cleared(array: Any) -> Any:
    array.fill(0)
    return array


def _tiles(samples: int, rows: int, columns: int, outputs: int) -> int:
    down, along = winograd_tiles.tile_counts(rows, columns, outputs)
    return samples * down * along


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
