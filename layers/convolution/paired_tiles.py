"""Convolutions of bf16 values on the tile unit."""

from dataclasses import dataclass
from typing import final

from layers.bias import bias
from layers.convolution.direct import Direct
from layers.convolution.paired import Paired
from layers.kernels import conv_tiles, conv_tiles_weights
from layers.kernels.epilogue import Epilogue
from layers.kernels.threads import Threads
from layers.kernels.tile_unit import HARDWARE, TileUnit
from layers.layer import Array, Buffers, Shape
from layers.layout import blocks
from layers.tiles import largest, packed


@final
@dataclass(frozen=True)
class PairedTiles(Paired):
    """The sums of a matrix unit, by the unit; operands are rounded where they are packed."""

    unit: TileUnit = HARDWARE

    def product_scratch(
        self, direction: str, samples: int, leaves: int, threads: int, *, pools: bool
    ) -> dict[str, Shape]:
        """Return room for packed operands and tiles, enough for each pass: they take turns in it."""
        loops, whole = self.multiplied, self.loops
        kernel, c_blocks = (loops.kh, loops.kw), blocks(loops.ifm)
        halo, gradient_halo = Direct(loops, self.leaf_channels).halo(), self.gradient_halo()
        lines = conv_tiles_weights.Lines(
            kernel, loops.stride, loops.dilation, loops.oh, loops.ow, samples, leaves
        )
        return largest(
            conv_tiles.room(
                samples, (c_blocks, self.k_blocks), (loops.ih, loops.iw + sum(halo)), kernel, loops.ow,
                loops.stride, threads,
            ),
            conv_tiles.room(
                samples, (blocks(min(self.leaf_channels, whole.ofm)), self.c_blocks),
                (whole.oh, whole.ow + sum(gradient_halo)), self.kernel, whole.iw, whole.stride, threads,
            ),
            lines.room(c_blocks, self.k_blocks, threads),
        )  # fmt: skip

    def forward_product(
        self, at: Buffers, threads: Threads, x: Array, weight: Array, epilogue: Epilogue
    ) -> None:
        """Write y."""
        loops = self.multiplied
        conv_tiles.forward(
            threads, self.unit, x, weight, bias(at), at.y[0], packed(at), loops.stride, loops.padding,
            dilation=loops.dilation, epilogue=epilogue,
        )  # fmt: skip

    def weights_product(self, at: Buffers, threads: Threads, x: Array, dy: Array, gradient: Array) -> None:
        """Write the gradient of weights."""
        loops = self.multiplied
        conv_tiles_weights.backward_weights(
            threads, self.unit, x, dy, packed(at), gradient, loops.stride, loops.padding, at.leaves,
            loops.dilation,
        )  # fmt: skip

    def backward_data(self, at: Buffers, threads: Threads, dy: Array, transposed: Array, dx: Array) -> None:
        """Write what one feature leaf adds to dx."""
        loops = self.loops
        conv_tiles.backward_data(
            threads, self.unit, dy, transposed, dx, packed(at), loops.stride, loops.padding, loops.dilation
        )
