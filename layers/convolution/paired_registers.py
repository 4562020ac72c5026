"""Convolutions of bf16 values on the register tile."""

from dataclasses import dataclass
from typing import final

from layers.bias import bias
from layers.convolution.direct import POOLING_ROWS, Direct
from layers.convolution.paired import Paired
from layers.kernels import bf16, conv_direct, conv_paired_weights
from layers.kernels.epilogue import Epilogue
from layers.kernels.threads import Threads
from layers.layer import Array, Buffers, Shape
from layers.layout import blocks, conv_weight
from layers.work import BACKWARD_WEIGHTS, FORWARD

_ROUNDED, _X_LINES, _DY_LINES, _STACK = "bf16_weights", "x_lines", "dy_lines", "weight_stack"


@final
@dataclass(frozen=True)
class PairedRegisters(Paired):
    """The sums of a matrix unit in vector registers."""

    def product_scratch(
        self, direction: str, samples: int, leaves: int, threads: int, *, pools: bool
    ) -> dict[str, Shape]:
        """Return room for rounded weights, or for pixels in lines and partial weight gradients."""
        loops = self.multiplied
        if direction == FORWARD:
            rounded = conv_weight((loops.ofm, loops.ifm, loops.kh, loops.kw), 0).blocked
            direct = Direct(loops, self.leaf_channels)
            rows = direct.scratch(direction, samples, leaves, threads, pools=pools)
            return rows if self.lowers else rows | {_ROUNDED: rounded}
        if direction != BACKWARD_WEIGHTS:
            return {}
        kernel, c_blocks = (loops.kh, loops.kw), blocks(loops.ifm)
        lines = conv_paired_weights.Lines(kernel, loops.stride, loops.dilation, loops.oh, loops.ow)
        return {
            _X_LINES: lines.x_shape(samples, c_blocks),
            _DY_LINES: lines.dy_shape(samples, self.k_blocks),
            _STACK: conv_paired_weights.stack_shape(
                self.k_blocks, c_blocks, kernel, self.runs(samples, leaves), threads
            ),
        }

    def of_weights(self, direction: str) -> frozenset[str]:
        """Return the rounded weights."""
        return super().of_weights(direction) or frozenset({_ROUNDED} if direction == FORWARD else ())

    def forward_product(
        self, at: Buffers, threads: Threads, x: Array, weight: Array, epilogue: Epilogue
    ) -> None:
        """Write y."""
        loops = self.multiplied
        if not self.lowers:  # weights of patches are rounded as they are made
            rounded: Array = at.scratch[_ROUNDED]  # type: ignore[assignment] # float32, as asked for
            if not at.prepared:
                _round(threads, weight, rounded)
            weight = rounded
        conv_direct.forward(
            threads, x, weight, bias(at), at.y[0], loops.ifm, loops.stride, loops.padding,
            dilation=loops.dilation, epilogue=epilogue,
            pooling_rows=at.scratch.get(POOLING_ROWS, conv_direct.NO_ROWS), paired=True,
        )  # fmt: skip

    def weights_product(self, at: Buffers, threads: Threads, x: Array, dy: Array, gradient: Array) -> None:
        """Write the gradient of weights."""
        loops = self.multiplied
        conv_paired_weights.backward_weights(
            threads, x, dy, at.scratch[_X_LINES], at.scratch[_DY_LINES], at.scratch[_STACK], gradient,
            loops.stride, loops.padding, at.leaves, loops.dilation,
        )  # fmt: skip

    def backward_data(self, at: Buffers, threads: Threads, dy: Array, transposed: Array, dx: Array) -> None:
        """Write what one feature leaf adds to dx."""
        if not at.prepared:
            _round(threads, transposed, transposed)
        loops = self.loops
        conv_direct.backward_data(
            threads, dy, transposed, dx, min(self.leaf_channels, loops.ofm), loops.stride, loops.padding,
            loops.dilation, paired=True,
        )  # fmt: skip


def _round(threads: Threads, weights: Array, rounded: Array) -> None:
    bf16.round_values(threads, weights.reshape(-1), rounded.reshape(-1))
