"""Winograd convolution: kernels of 3x3 and 5x5 with stride 1."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from layers.bias import bias
from layers.convolution.algorithm import Algorithm
from layers.kernels import conv_winograd, conv_winograd_weights
from layers.kernels.conv_algorithm import (
    backward_weights_is_winograd,
    forward_is_winograd,
    winograd_outputs,
)
from layers.kernels.epilogue import PLAIN, Epilogue
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads
from layers.kernels.winograd_tiles import POSITIONS, tile_counts
from layers.kernels.winograd_transforms import POINTS
from layers.layer import Array, Buffers, Halo, Shape, wider
from layers.layout import blocks
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD, Extents

_ZEROS = "zeros"


def exists(loops: Extents) -> bool:
    """Return whether there is a Winograd algorithm for the kernel, stride and dilation."""
    return loops.dilation == 1 and winograd_outputs((loops.kh, loops.kw), loops.stride) > 0


@dataclass(frozen=True)
class Winograd(Algorithm):
    """Products of transformed tiles of M x M outputs, 6 x 6 positions each."""

    is_winograd = True

    @property
    def outputs(self) -> int:
        """M of F(M x M, R x R)."""
        return winograd_outputs(self.kernel, self.loops.stride)

    def gains(self, direction: str, whole_channels: int, samples_per_leaf: int) -> bool:
        """Return whether a pass costs less than by the direct algorithm.

        Parameters
        ----------
        whole_channels
            Output channels of the layer on all ranks together: the choice must not depend on their number.
        """
        loops = self.loops
        shape = self.kernel, loops.stride
        if direction == BACKWARD_DATA:
            reachable = max(loops.padding) < min(self.kernel)  # else dx has windows that begin beyond dy
            sizes = loops.ih, loops.iw
            return reachable and forward_is_winograd(self.leaf_channels, loops.ifm, *shape, *sizes)
        channels = loops.ifm, whole_channels
        if direction == FORWARD:
            return forward_is_winograd(*channels, *shape, loops.oh, loops.ow)
        return backward_weights_is_winograd(*channels, *shape, loops.oh, loops.ow, samples_per_leaf)

    def halo(self) -> Halo:
        """Return the columns that windows reach beyond a row of x."""
        return conv_winograd.halo(self.loops.iw, self.loops.ow, self.outputs, self.loops.padding[1])

    def gradient_halo(self) -> Halo:
        """Return the columns that windows of backward_data and tiles of dy reach beyond a row of dy."""
        padding = max(0, self._back_padding[1])
        windows = conv_winograd.halo(self.loops.ow, self.loops.iw, self.outputs, padding)
        return wider(windows, conv_winograd_weights.gradient_halo(self.loops.ow, self.outputs))

    def scratch(
        self, direction: str, samples: int, leaves: int, threads: int, *, pools: bool
    ) -> dict[str, Shape]:
        """Return room for transformed tiles, weights and products."""
        if direction == BACKWARD_WEIGHTS:
            tiles = self._tiles(direction, samples // leaves)
            shapes = conv_winograd_weights.scratch_shapes(
                self.c_blocks, self.k_blocks, self.loops.kh, tiles, leaves, threads
            )
        else:
            channels = self.c_blocks, self.k_blocks
            if direction == BACKWARD_DATA:
                channels = blocks(self.leaf_channels), self.c_blocks
            total = self._tiles(direction, samples)
            shapes = conv_winograd.scratch_shapes(*channels, total, threads, self.outputs)
        zeros = max(self.c_blocks, POINTS) * LANES  # a row of a window, or the bias of dx
        return {f"{direction} {name}": shape for name, shape in shapes.items()} | {_ZEROS: (zeros,)}

    def of_weights(self, direction: str) -> frozenset[str]:
        """Return the name of the transformed weights."""
        return frozenset() if direction == BACKWARD_WEIGHTS else frozenset({f"{direction} u"})

    def executed_flops(self, direction: str, samples: int) -> int:
        """Return the FLOP at the positions of all tiles, incomplete ones as whole.

        (M + R - 1)^2 multiply-adds for M x M outputs; the transforms, a few additions a value, do not count.
        """
        return 2 * self._tiles(direction, samples) * POSITIONS * self.loops.ifm * self.loops.ofm

    def forward(self, at: Buffers, threads: Threads, epilogue: Epilogue) -> None:
        """Write y as an epilogue leaves it."""
        weight = at.weights["weight"]
        scratch, zeros = _arrays(at, FORWARD)
        conv_winograd.forward(
            threads, at.x[0], weight, bias(at), at.y[0], scratch, zeros, self.outputs, self.loops.padding,
            flip=False, epilogue=epilogue, prepared=at.prepared,
        )  # fmt: skip

    def backward_weights(self, at: Buffers, threads: Threads, dy: Array, epilogue: Epilogue) -> None:
        """Write the gradient of weight."""
        scratch, zeros = _arrays(at, BACKWARD_WEIGHTS)
        conv_winograd_weights.backward_weights(
            threads, at.x[0], dy, at.gradients["weight"], scratch, zeros, self.outputs, self.loops.padding,
            at.leaves,
        )  # fmt: skip

    def backward_data(self, at: Buffers, threads: Threads, dy: Array, transposed: Array, dx: Array) -> None:
        """Write what one feature leaf adds to dx: forward over dy, with the kernels turned round."""
        scratch, zeros = _arrays(at, BACKWARD_DATA)
        conv_winograd.forward(
            threads, dy, transposed, zeros, dx, scratch, zeros, self.outputs, self._back_padding,
            flip=True, epilogue=PLAIN, prepared=at.prepared,
        )  # fmt: skip

    @property
    def _back_padding(self) -> tuple[int, int]:
        """Rows and columns of zeros around dy, of which backward_data is the convolution."""
        return self.loops.kh - 1 - self.loops.padding[0], self.loops.kw - 1 - self.loops.padding[1]

    def _tiles(self, direction: str, samples: int) -> int:
        loops = self.loops
        result = (loops.ih, loops.iw) if direction == BACKWARD_DATA else (loops.oh, loops.ow)
        down, along = tile_counts(*result, self.outputs)
        return samples * down * along


def _arrays(at: Buffers, direction: str) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """Return the working memory of one pass by name, and zeros; other layers have used both since."""
    prefix, zeros = f"{direction} ", at.scratch[_ZEROS]
    zeros.fill(0)
    found = {key.removeprefix(prefix): array for key, array in at.scratch.items() if key.startswith(prefix)}
    return found, zeros
