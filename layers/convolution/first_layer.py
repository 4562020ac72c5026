"""Direct convolution of few input channels: forward and the weight gradient have kernels of their own."""

from dataclasses import dataclass

from layers.bias import bias, bias_gradient
from layers.convolution.direct import POOLING_ROWS, LikeDirect
from layers.kernels import conv_direct, conv_first, conv_first_forward
from layers.kernels.epilogue import Epilogue
from layers.kernels.first_rows import make_dense
from layers.kernels.threads import Threads
from layers.layer import Array, Buffers, Shape
from layers.layout import interior, storage_shape
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD, Extents

_DENSE, _PACKED, _PARTIALS, _CHUNK = "dense_x", "packed_weights", "partials", "chunk"


def applies(loops: Extents) -> bool:
    """Return whether a convolution is a first layer: few input channels, and taps side by side."""
    return loops.dilation == 1 and conv_first.applies(loops.ifm)


@dataclass(frozen=True)
class FirstLayer(LikeDirect):
    """The sums of the direct algorithm from a dense x; backward_weights reads dy once, pooled or not."""

    reads_pooled_dy = True
    makes_bias_gradient = True
    """Unless dy is pooled: then `epilogue.bias_gradient` does, from a quarter of the memory."""

    def scratch(
        self, direction: str, samples: int, leaves: int, threads: int, *, pools: bool
    ) -> dict[str, Shape]:
        """Return room for dense x and weights, gradients of leaves, and a chunk of dy before pooling."""
        loops, shapes = self.loops, dict[str, Shape]()
        if direction != BACKWARD_DATA:
            image = loops.ifm, loops.ih, loops.iw
            shapes[_DENSE] = storage_shape(image, samples, self.halo(), loops.ifm)
        if direction == BACKWARD_WEIGHTS:
            shapes[_PARTIALS], chunk = conv_first.scratch_shapes(
                self.k_blocks, loops.ifm, self.kernel, self.runs(samples, leaves), threads
            )
            return shapes | {_CHUNK: chunk} if pools else shapes
        if direction == FORWARD:
            shapes[_PACKED] = (conv_first_forward.packed_floats(self.k_blocks, loops.ifm, self.kernel),)
        return shapes | self.direct.scratch(direction, samples, leaves, threads, pools=pools)

    def forward(self, at: Buffers, threads: Threads, epilogue: Epilogue) -> None:
        """Write y as an epilogue leaves it."""
        conv_first_forward.forward(
            threads, self._dense(at, threads), at.weights["weight"], bias(at), at.y[0],
            at.scratch[_PACKED], self.loops.stride, self.loops.padding,
            epilogue=epilogue, pooling_rows=at.scratch.get(POOLING_ROWS, conv_direct.NO_ROWS),
        )  # fmt: skip

    def backward_weights(self, at: Buffers, threads: Threads, dy: Array, epilogue: Epilogue) -> None:
        """Write the gradients, from a pooled dy that of weight only."""
        conv_first.backward_weights(
            threads, self._dense(at, threads), dy, at.scratch[_PARTIALS], at.gradients["weight"],
            bias_gradient(at), self.loops.stride, self.loops.padding,
            at.leaves, self.loops.oh, epilogue=epilogue, chunk=at.scratch.get(_CHUNK, conv_first.NO_ROWS),
        )  # fmt: skip

    def backward_data(self, at: Buffers, threads: Threads, dy: Array, transposed: Array, dx: Array) -> None:
        """Write what one feature leaf adds to dx."""
        self.direct.backward_data(at, threads, dy, transposed, dx)

    def _dense(self, at: Buffers, threads: Threads) -> Array:
        """Return x without padded channels: as the network's input is stored, or else from working memory."""
        (x,), loops, halo = at.x, self.loops, self.halo()
        if x.shape[4] == loops.ifm:
            return x
        dense: Array = at.scratch[_DENSE]  # type: ignore[assignment] # float32, as asked for
        make_dense(threads, x, dense, halo[0])
        return interior(dense, (loops.ifm, loops.ih, loops.iw), halo)
