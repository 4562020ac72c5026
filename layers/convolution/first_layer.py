"""Direct convolution of few input channels: forward and the weight gradient have kernels of their own."""

from dataclasses import dataclass

from layers.bias import bias, bias_gradient
from layers.convolution.direct import POOLING_ROWS, LikeDirect
from layers.kernels import conv_direct, conv_first, conv_first_forward
from layers.kernels.epilogue import Epilogue
from layers.kernels.threads import Threads
from layers.layer import Array, Buffers, Shape
from layers.work import BACKWARD_WEIGHTS, FORWARD, Extents

_DENSE, _PACKED = "dense_rows", "packed_weights"
_PARTIALS, _DENSE_X, _CHUNK = "partials", "weights dense_rows", "chunk"


def applies(loops: Extents) -> bool:
    """Return whether a convolution is a first layer: few input channels."""
    return conv_first.applies(loops.ifm)


@dataclass(frozen=True)
class FirstLayer(LikeDirect):
    """The sums of the direct algorithm from a dense x; backward_weights reads dy once, pooled or not."""

    reads_pooled_dy = True
    makes_bias_gradient = True
    """Unless dy is pooled: then `epilogue.bias_gradient` does, from a quarter of the memory."""

    def scratch(
        self, direction: str, samples: int, leaves: int, threads: int, *, pools: bool
    ) -> dict[str, Shape]:
        """Return room for dense rows and weights, gradients of leaves, and a chunk of dy before pooling."""
        shapes: dict[str, Shape] = {}
        if direction != BACKWARD_WEIGHTS:
            shapes |= self.direct.scratch(direction, samples, leaves, threads, pools=pools)
        if direction == FORWARD:
            loops = self.loops
            shapes[_DENSE], shapes[_PACKED] = conv_first_forward.scratch_shapes(
                self.k_blocks, loops.ifm, self.kernel, loops.stride, loops.oh, loops.ow, samples, threads
            )
        if direction != BACKWARD_WEIGHTS:
            return shapes
        partials, dense, chunk = conv_first.scratch_shapes(
            self.k_blocks,
            self.loops.ifm,
            self.kernel,
            self.loops.stride,
            self.loops.ow,
            self.runs(samples, leaves),
            threads,
        )
        shapes = {_PARTIALS: partials, _DENSE_X: dense}
        return shapes | {_CHUNK: chunk} if pools else shapes

    def forward(self, at: Buffers, threads: Threads, epilogue: Epilogue) -> None:
        """Write y as an epilogue leaves it."""
        dense, packed = at.scratch[_DENSE], at.scratch[_PACKED]
        conv_first_forward.forward(
            threads, at.x[0], at.weights["weight"], bias(at), at.y[0], dense, packed,
            self.loops.ifm, self.loops.stride, self.loops.padding,
            epilogue=epilogue, pooling_rows=at.scratch.get(POOLING_ROWS, conv_direct.NO_ROWS),
        )  # fmt: skip

    def backward_weights(self, at: Buffers, threads: Threads, dy: Array, epilogue: Epilogue) -> None:
        """Write the gradients, from a pooled dy that of weight only."""
        conv_first.backward_weights(
            threads, at.x[0], dy, at.scratch[_PARTIALS], at.scratch[_DENSE_X], at.gradients["weight"],
            bias_gradient(at), self.loops.ifm, self.loops.stride, self.loops.padding,
            at.leaves, self.loops.oh, epilogue=epilogue, chunk=at.scratch.get(_CHUNK, conv_first.NO_ROWS),
        )  # fmt: skip

    def backward_data(self, at: Buffers, threads: Threads, dy: Array, transposed: Array, dx: Array) -> None:
        """Write what one feature leaf adds to dx."""
        self.direct.backward_data(at, threads, dy, transposed, dx)
