"""Convolutions of bf16 values: products as matrix units make them, in fp32 sums."""

from dataclasses import dataclass

from layers.bias import bias
from layers.convolution.direct import POOLING_ROWS, Direct, LikeDirect
from layers.kernels import bf16, conv_direct, conv_paired_weights, patches
from layers.kernels.epilogue import Epilogue
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads
from layers.layer import Array, Buffers, Shape
from layers.layout import conv_weight
from layers.work import BACKWARD_WEIGHTS, FORWARD

_WEIGHTS, _X_LINES, _DY_LINES, _STACK = "bf16_weights", "x_lines", "dy_lines", "weight_stack"
_PATCHES, _ROW, _GRADIENT = "patches", "patch_row", "patch_gradient"
_PLAIN = (1, 1), 1, 1  # kernel, stride and dilation of patches


@dataclass(frozen=True)
class Paired(LikeDirect):
    """The direct algorithm with the sums of `layers.kernels.paired_tile`; x and dy hold bf16 values."""

    rounds_x: bool = False
    """x holds any values: it is the network's input."""

    @property
    def lowers(self) -> bool:
        """Say whether taps and channels of x are summed as one: blocks of so few would be mostly empty."""
        return self.loops.ifm < LANES or self.rounds_x

    def scratch(
        self, direction: str, samples: int, leaves: int, threads: int, *, pools: bool
    ) -> dict[str, Shape]:
        """Return room for rounded weights, or for pixels in lines and partial weight gradients."""
        loops, shapes = self.loops, dict[str, Shape]()
        if direction not in (FORWARD, BACKWARD_WEIGHTS):
            return shapes
        kernel, stride, dilation = self.kernel, loops.stride, loops.dilation
        c_blocks = self.c_blocks
        if self.lowers:
            c_blocks = patches.blocks(loops.ifm, self.kernel)
            kernel, stride, dilation = _PLAIN
            shapes[_PATCHES] = samples, c_blocks, loops.oh, loops.ow, LANES
            shapes[_ROW] = threads, c_blocks * LANES
        weights = conv_weight((loops.ofm, c_blocks * LANES, *kernel), 0).blocked
        if direction == FORWARD:
            shapes[_WEIGHTS] = weights
            return shapes | Direct(loops, self.leaf_channels).scratch(
                direction, samples, leaves, threads, pools=pools
            )
        lines = conv_paired_weights.Lines(kernel, stride, dilation, loops.oh, loops.ow)
        shapes[_X_LINES] = lines.x_shape(samples, c_blocks)
        shapes[_DY_LINES] = lines.dy_shape(samples, self.k_blocks)
        shapes[_STACK] = conv_paired_weights.stack_shape(
            self.k_blocks, c_blocks, kernel, self.runs(samples, leaves), threads
        )
        if self.lowers:
            shapes[_GRADIENT] = weights
        return shapes

    def of_weights(self, direction: str) -> frozenset[str]:
        """Return the rounded weights."""
        return frozenset({_WEIGHTS}) if direction == FORWARD else frozenset()

    def forward(self, at: Buffers, threads: Threads, epilogue: Epilogue) -> None:
        """Write y as an epilogue leaves it."""
        loops, (x,) = self.loops, at.x
        weights: Array = at.scratch[_WEIGHTS]  # type: ignore[assignment] # float32, as asked for
        stride, padding, dilation, channels = loops.stride, loops.padding, loops.dilation, loops.ifm
        if self.lowers:
            if not at.prepared:
                patches.patch_weights(threads, at.weights["weight"], weights, loops.ifm)
            x = self._patches(at, threads)
            stride, padding, dilation, channels = 1, (0, 0), 1, x.shape[1] * LANES
        elif not at.prepared:
            _round(threads, at.weights["weight"], weights)
        conv_direct.forward(
            threads, x, weights, bias(at), at.y[0], channels, stride, padding, dilation=dilation,
            epilogue=epilogue, pooling_rows=at.scratch.get(POOLING_ROWS, conv_direct.NO_ROWS), paired=True,
        )  # fmt: skip

    def backward_weights(self, at: Buffers, threads: Threads, dy: Array, epilogue: Epilogue) -> None:
        """Write the gradient of weight."""
        loops, (x,), gradient = self.loops, at.x, at.gradients["weight"]
        stride, padding, dilation = loops.stride, loops.padding, loops.dilation
        if self.lowers:
            x, gradient = self._patches(at, threads), at.scratch[_GRADIENT]  # type: ignore[assignment]
            stride, padding, dilation = 1, (0, 0), 1
        conv_paired_weights.backward_weights(
            threads, x, dy, at.scratch[_X_LINES], at.scratch[_DY_LINES], at.scratch[_STACK], gradient,
            stride, padding, at.leaves, dilation,
        )  # fmt: skip
        if self.lowers:
            patches.patch_gradient(threads, gradient, at.gradients["weight"], loops.ifm)

    def backward_data(self, at: Buffers, threads: Threads, dy: Array, transposed: Array, dx: Array) -> None:
        """Write what one feature leaf adds to dx."""
        if not at.prepared:
            _round(threads, transposed, transposed)
        loops = self.loops
        conv_direct.backward_data(
            threads, dy, transposed, dx, min(self.leaf_channels, loops.ofm), loops.stride, loops.padding,
            loops.dilation, paired=True,
        )  # fmt: skip

    def _patches(self, at: Buffers, threads: Threads) -> Array:
        """Write the patches of x."""
        loops, made = self.loops, at.scratch[_PATCHES]
        patches.make_patches(
            threads, at.x[0], made, loops.ifm, self.kernel, loops.stride, loops.padding, loops.dilation,
            at.scratch[_ROW],
        )  # fmt: skip
        return made  # type: ignore[return-value] # float32, as asked for


def _round(threads: Threads, weights: Array, rounded: Array) -> None:
    bf16.round_values(threads, weights.reshape(-1), rounded.reshape(-1))
