"""Pixels in lines: how the weight gradients of bf16 convolutions take the pixels of an image, on any unit.

The rows of an image of dy lie one behind the other, each with columns of zeros behind it, as many as taps are
apart: so a tap meets x at one distance all along the line. Where a convolution is strided, the pixels of x of
each residue have a line of their own. Bits depend on it: it says which pixels share a block of a sum.
"""

from dataclasses import dataclass

from layers.kernels.residues import step_and_fall


@dataclass(frozen=True)
class PixelLines:
    """The lines of a convolution."""

    kernel: tuple[int, int]
    stride: int
    dilation: int
    rows: int
    """Of dy; as many as of its own are columns."""
    columns: int

    @property
    def down(self) -> int:
        """Rows of a line between the first and the last row of the kernel."""
        return (self.kernel[0] - 1) * self.dilation // self.stride

    @property
    def right(self) -> int:
        """Columns between the first and the last of the kernel."""
        return (self.kernel[1] - 1) * self.dilation // self.stride

    @property
    def pitch(self) -> int:
        """Pixels of a row in a line."""
        return self.columns + self.right

    @property
    def x_rows(self) -> int:
        """Rows of a line of x."""
        return self.rows + self.down

    @property
    def residues(self) -> tuple[int, int]:
        """Residues of rows and of columns that some tap meets; each pair has a line of x."""
        step, _ = step_and_fall(self.stride, self.dilation)
        return min(self.kernel[0], step), min(self.kernel[1], step)
