"""Convolutions of 1x1: a matrix product of pixels and channels."""

from dataclasses import dataclass
from typing import NamedTuple

from layers.bias import bias, bias_gradient
from layers.convolution.direct import LikeDirect
from layers.kernels import conv_pointwise, conv_pointwise_weights
from layers.kernels.epilogue import RELU_POOL, Epilogue
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads
from layers.layer import Array, Buffers, Shape
from layers.layout import blocks
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD, Extents

_WEIGHTS = "weight_stack", "gathered", "group_weights", "group_biases"


class Joined(NamedTuple):
    """What a gradient is joined with while it is stored; in memory like dx."""

    others: Array | None = None
    """Gradient by the other reader, which is added."""
    value: Array | None = None
    """x, where it is what a ReLU made: its gradient before that is wanted."""


ALONE = Joined()


def applies(loops: Extents) -> bool:
    """Return whether a convolution is one of single pixels, all of them inside the image."""
    inside = (loops.oh - 1) * loops.stride < loops.ih and (loops.ow - 1) * loops.stride < loops.iw
    return loops.kh * loops.kw == 1 and loops.padding == (0, 0) and inside


@dataclass(frozen=True)
class Pointwise(LikeDirect):
    """The sums of the direct algorithm in its order: the same bits."""

    makes_bias_gradient = True

    def scratch(
        self, direction: str, samples: int, leaves: int, threads: int, *, pools: bool
    ) -> dict[str, Shape]:
        """Return room for gathered pixels and their places, or for partial sums."""
        if direction == BACKWARD_WEIGHTS:
            shapes = conv_pointwise_weights.scratch_shapes(
                self.k_blocks,
                self.c_blocks,
                self.loops.stride,
                leaves,
                threads,
                self.runs(samples, leaves) // leaves,
            )
            return dict(zip(_WEIGHTS, shapes, strict=True))
        if direction == FORWARD and pools:
            return self.direct.scratch(direction, samples, leaves, threads, pools=pools)
        read = self.c_blocks if direction == FORWARD else blocks(self.leaf_channels)
        gathered, places = conv_pointwise.scratch_shapes(read * LANES, threads)
        return {f"{direction} gathered": gathered, f"{direction} places": places}

    def forward(self, at: Buffers, threads: Threads, epilogue: Epilogue) -> None:
        """Write y as an epilogue leaves it."""
        if epilogue.kind == RELU_POOL:
            self.direct.forward(at, threads, epilogue)
            return
        conv_pointwise.forward(
            threads, at.x[0], at.weights["weight"], bias(at), at.y[0], *_scratch(at, FORWARD),
            self.loops.ifm, self.loops.stride, epilogue,
        )  # fmt: skip

    def backward_weights(self, at: Buffers, threads: Threads, dy: Array, epilogue: Epilogue) -> None:
        """Write the gradients of weight and bias."""
        stack, gathered, group_weights, group_biases = (at.scratch[name] for name in _WEIGHTS)
        conv_pointwise_weights.backward_weights(
            threads, at.x[0], dy, stack, gathered, group_weights, group_biases, at.gradients["weight"],
            bias_gradient(at), self.loops.stride, at.leaves,
        )  # fmt: skip

    def backward_data(
        self, at: Buffers, threads: Threads, dy: Array, transposed: Array, dx: Array, joined: Joined = ALONE
    ) -> None:
        """Write what one feature leaf adds to dx; with stride 1, joined with another reader's gradient."""
        scratch, channels = _scratch(at, BACKWARD_DATA), min(self.leaf_channels, self.loops.ofm)
        conv_pointwise.backward_data(
            threads, dy, transposed, dx, *scratch, channels, self.loops.stride, others=joined.others,
            value=joined.value,
        )  # fmt: skip


def _scratch(at: Buffers, direction: str) -> tuple[Array, Array]:
    return at.scratch[f"{direction} gathered"], at.scratch[f"{direction} places"]  # type: ignore[return-value]
