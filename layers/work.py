"""What a layer has to do, in the terms of the balance equations: passes, and the extents of their loops."""

from dataclasses import dataclass

FORWARD, BACKWARD_WEIGHTS, BACKWARD_DATA = PASSES = ("forward", "backward_weights", "backward_data")
"""The passes over a layer, in the order of a training step; the names are those of `Layer`'s methods."""


@dataclass(frozen=True)
class Extents:
    """Extents of the loops of a layer that multiplies (Das et al. 2016, arXiv:1602.06709).

    `ifm` and `ofm` are input and output feature maps, `kh` x `kw` the kernel, `oh` x `ow` the output maps and
    `ih` x `iw` the input maps. A fully connected layer is a convolution with maps and a kernel of 1x1.
    """

    ifm: int
    ofm: int
    kh: int = 1
    kw: int = 1
    oh: int = 1
    ow: int = 1
    ih: int = 1
    iw: int = 1
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    """Rows and columns."""
    dilation: int = 1
    groups: int = 1
    """Runs of input maps, each of which makes a run of output maps by itself."""

    @property
    def weights(self) -> int:
        """Number of weights; biases are not counted, as in the paper."""
        return self.ifm * self.ofm * self.kh * self.kw // self.groups

    @property
    def flops(self) -> int:
        """FLOP of any one pass over one sample by the direct algorithm, a multiply-add as two."""
        return 2 * self.weights * self.oh * self.ow

    @property
    def is_fully_connected(self) -> bool:
        """Whether maps and kernel are 1x1."""
        return self.kh * self.kw * self.oh * self.ow * self.ih * self.iw == 1
