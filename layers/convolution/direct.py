"""Direct convolution: any kernel, stride and padding."""

from dataclasses import dataclass

from layers.bias import bias
from layers.convolution.algorithm import Algorithm
from layers.kernels import conv_direct, conv_direct_weights
from layers.kernels.epilogue import Epilogue
from layers.kernels.threads import Threads
from layers.layer import Array, Buffers, Halo, Shape
from layers.layout import group
from layers.work import BACKWARD_WEIGHTS, FORWARD

POOLING_ROWS, _STACK = "pooling_rows", "weight_stack"


@dataclass(frozen=True)
class Direct(Algorithm):
    """The sum over channels and taps as it is written."""

    def halo(self) -> Halo:
        """Return the columns that the kernel reaches beyond a row of x."""
        loops, reach = self.loops, self._reach
        return conv_direct.halo(loops.iw, loops.ow, reach, loops.stride, loops.padding[1])

    def gradient_halo(self) -> Halo:
        """Return the columns that the kernel reaches beyond a row of dy."""
        loops, reach = self.loops, self._reach
        return conv_direct.gradient_halo(loops.iw, loops.ow, reach, loops.stride, loops.padding[1])

    @property
    def _reach(self) -> int:
        """Columns from the first to the last of the kernel."""
        return (self.loops.kw - 1) * self.loops.dilation + 1

    def scratch(
        self, direction: str, samples: int, leaves: int, threads: int, *, pools: bool
    ) -> dict[str, Shape]:
        """Return room for rows that wait to be pooled, or for partial weight gradients."""
        if direction == FORWARD and pools:
            columns = 2 * (self.loops.ow // 2)
            return {POOLING_ROWS: conv_direct.pooling_rows_shape(columns, group(self.loops.ofm), threads)}
        if direction == BACKWARD_WEIGHTS:
            sizes = (
                self.k_blocks,
                self.c_blocks,
                self.loops.ifm,
                self.kernel,
                self.runs(samples, leaves),
                threads,
            )
            return {_STACK: conv_direct_weights.stack_shape(*sizes)}
        return {}

    def forward(self, at: Buffers, threads: Threads, epilogue: Epilogue) -> None:
        """Write y as an epilogue leaves it."""
        conv_direct.forward(
            threads, at.x[0], at.weights["weight"], bias(at), at.y[0], self.loops.ifm,
            self.loops.stride, self.loops.padding, dilation=self.loops.dilation,
            epilogue=epilogue, pooling_rows=at.scratch.get(POOLING_ROWS, conv_direct.NO_ROWS),
        )  # fmt: skip

    def backward_weights(self, at: Buffers, threads: Threads, dy: Array, epilogue: Epilogue) -> None:
        """Write the gradient of weight."""
        conv_direct_weights.backward_weights(
            threads, at.x[0], dy, at.scratch[_STACK], at.gradients["weight"], self.loops.ifm,
            self.loops.stride, self.loops.padding, at.leaves, self.loops.dilation,
        )  # fmt: skip

    def backward_data(self, at: Buffers, threads: Threads, dy: Array, transposed: Array, dx: Array) -> None:
        """Write what one feature leaf adds to dx."""
        channels = min(self.leaf_channels, self.loops.ofm)
        conv_direct.backward_data(
            threads, dy, transposed, dx, channels, self.loops.stride, self.loops.padding, self.loops.dilation
        )


class LikeDirect(Algorithm):
    """An algorithm that reads the columns which the direct one reads, and leaves some passes to it."""

    @property
    def direct(self) -> Direct:
        """The direct algorithm of the same layer."""
        return Direct(self.loops, self.leaf_channels)

    def halo(self) -> Halo:
        """Return the halo of the direct algorithm."""
        return self.direct.halo()

    def gradient_halo(self) -> Halo:
        """Return the halo of the direct algorithm."""
        return self.direct.gradient_halo()
