"""What the algorithms of a convolution have in common: the description they work from, and their methods."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from layers.kernels.epilogue import Epilogue
from layers.kernels.runs import runs_of_leaf
from layers.kernels.threads import Threads
from layers.layer import Array, Buffers, Halo, Shape
from layers.layout import blocks
from layers.work import Extents


@dataclass(frozen=True)
class Algorithm(ABC):
    """One way to compute passes of a convolution; it owns their working memory and knows what they read.

    A direction is one of `layers.work.PASSES`.
    """

    loops: Extents
    leaf_channels: int
    """Output channels of a feature leaf, which backward_data works on at a time."""

    is_winograd: ClassVar[bool] = False
    reads_pooled_dy: ClassVar[bool] = False
    """backward_weights takes a gradient as it is before 2x2 maximum pooling was undone."""
    makes_bias_gradient: ClassVar[bool] = False
    """backward_weights writes the gradient of bias, too."""

    @property
    def c_blocks(self) -> int:
        """Blocks of input channels."""
        return blocks(self.loops.ifm)

    @property
    def k_blocks(self) -> int:
        """Blocks of output channels."""
        return blocks(self.loops.ofm)

    @property
    def kernel(self) -> tuple[int, int]:
        """Rows and columns of the kernel."""
        return self.loops.kh, self.loops.kw

    def runs(self, samples: int, leaves: int) -> int:
        """Return the runs of all leaves, over which the direct algorithms sum gradients in order."""
        return leaves * runs_of_leaf(samples // leaves, self.loops.oh, self.loops.ow)

    @abstractmethod
    def halo(self) -> Halo:
        """Return the zero columns that forward and backward_weights read beside the rows of x."""

    @abstractmethod
    def gradient_halo(self) -> Halo:
        """Return the zero columns that backward_data and backward_weights read beside the rows of dy."""

    @abstractmethod
    def scratch(
        self, direction: str, samples: int, leaves: int, threads: int, *, pools: bool
    ) -> dict[str, Shape]:
        """Return the shapes by name of the working memory of one pass, float32.

        Parameters
        ----------
        pools
            2x2 maximum pooling follows the convolution.
        """

    def of_weights(self, direction: str) -> frozenset[str]:
        """Return the names of the working memory that a pass fills from the weights, unless `at.prepared`."""
        return frozenset()

    def executed_flops(self, direction: str, samples: int) -> int:
        """Return the FLOP of the multiply-adds of one pass."""
        return samples * self.loops.flops

    @abstractmethod
    def forward(self, at: Buffers, threads: Threads, epilogue: Epilogue) -> None:
        """Write y as an epilogue leaves it."""

    @abstractmethod
    def backward_weights(self, at: Buffers, threads: Threads, dy: Array, epilogue: Epilogue) -> None:
        """Write the gradient of weight.

        Parameters
        ----------
        dy
            Gradient of the convolution's own result, or a pooled one where `reads_pooled_dy`.
        epilogue
            Tells where the maxima were if dy is pooled; else PLAIN.
        """

    @abstractmethod
    def backward_data(self, at: Buffers, threads: Threads, dy: Array, transposed: Array, dx: Array) -> None:
        """Write what one feature leaf adds to dx.

        Parameters
        ----------
        dy
            Gradient of the leaf's channels of the convolution's own result.
        transposed
            The leaf's weights with vectors along the input channels.
        """
