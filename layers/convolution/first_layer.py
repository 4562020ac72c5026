"""Direct convolution of few input channels: the weight gradient has an algorithm of its own."""

from dataclasses import dataclass

from layers.convolution.algorithm import Algorithm
from layers.convolution.direct import Direct
from layers.kernels import conv_first
from layers.kernels.epilogue import Epilogue
from layers.kernels.threads import Threads
from layers.layer import Array, Buffers, Halo, Shape
from layers.work import BACKWARD_WEIGHTS, Extents

_PARTIALS, _CHUNK = "partials", "chunk"


def applies(loops: Extents) -> bool:
    """Return whether a convolution is a first layer: few input channels and columns of the kernel."""
    return conv_first.applies(loops.ifm, loops.kw)


@dataclass(frozen=True)
class FirstLayer(Algorithm):
    """Forward and backward_data are direct; backward_weights reads dy once, pooled or not."""

    reads_pooled_dy = True

    @property
    def _direct(self) -> Direct:
        return Direct(self.loops, self.leaf_channels)

    def halo(self) -> Halo:
        """Return the halo of the direct algorithm."""
        return self._direct.halo()

    def gradient_halo(self) -> Halo:
        """Return the halo of the direct algorithm."""
        return self._direct.gradient_halo()

    def scratch(
        self, direction: str, samples: int, leaves: int, threads: int, *, pools: bool
    ) -> dict[str, Shape]:
        """Return room for the gradients of single leaves, and for a chunk of dy before pooling."""
        if direction != BACKWARD_WEIGHTS:
            return self._direct.scratch(direction, samples, leaves, threads, pools=pools)
        shapes: dict[str, Shape] = {
            _PARTIALS: conv_first.partials_shape(self.k_blocks, self.loops.ifm, self.kernel, leaves)
        }
        if pools:
            shapes[_CHUNK] = conv_first.chunk_shape(self.k_blocks, self.loops.kw, threads)
        return shapes

    def forward(self, at: Buffers, threads: Threads, epilogue: Epilogue) -> None:
        """Write y as an epilogue leaves it."""
        self._direct.forward(at, threads, epilogue)

    def backward_weights(self, at: Buffers, threads: Threads, dy: Array, epilogue: Epilogue) -> None:
        """Write the gradient of weight, from a pooled dy where the epilogue pools."""
        conv_first.backward_weights(
            threads, at.x[0], dy, at.scratch[_PARTIALS], at.gradients["weight"], self.loops.stride,
            self.loops.padding, epilogue=epilogue, chunk=at.scratch.get(_CHUNK, conv_first.NO_ROWS),
        )  # fmt: skip

    def backward_data(self, at: Buffers, threads: Threads, dy: Array, transposed: Array, dx: Array) -> None:
        """Write what one feature leaf adds to dx."""
        self._direct.backward_data(at, threads, dy, transposed, dx)
