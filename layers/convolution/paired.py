"""Convolutions of bf16 values: products as matrix units make them, in fp32 sums."""

from abc import abstractmethod
from dataclasses import dataclass, replace

from layers.convolution.direct import LikeDirect
from layers.kernels import patches
from layers.kernels.epilogue import Epilogue
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads
from layers.layer import Array, Buffers, Shape
from layers.layout import conv_weight
from layers.work import BACKWARD_DATA, FORWARD, Extents

_PATCHES, _ROWS, _WEIGHTS, _GRADIENT = "patches", "patch_rows", "patch_weights", "patch_gradient"


@dataclass(frozen=True)
class Paired(LikeDirect):
    """The direct algorithm with the sums of `layers.kernels.paired_tile`; x and dy hold bf16 values."""

    rounds_x: bool = False
    """x holds any values: it is the network's input."""

    @property
    def lowers(self) -> bool:
        """Say whether taps and channels of x are summed as one: blocks of so few would be mostly empty."""
        return self.loops.ifm < LANES or self.rounds_x

    @property
    def multiplied(self) -> Extents:
        """Extents of what forward and backward_weights multiply: patches, or x itself."""
        loops = self.loops
        if not self.lowers:
            return loops
        channels = patches.blocks(loops.ifm, self.kernel) * LANES
        return replace(
            loops, ifm=channels, kh=1, kw=1, ih=loops.oh, iw=loops.ow, stride=1, padding=(0, 0), dilation=1
        )

    def scratch(
        self, direction: str, samples: int, leaves: int, threads: int, *, pools: bool
    ) -> dict[str, Shape]:
        """Return room for what is multiplied, and that of the products."""
        shapes, loops = (
            self.product_scratch(direction, samples, leaves, threads, pools=pools),
            self.multiplied,
        )
        if not self.lowers or direction == BACKWARD_DATA:
            return shapes
        weights = conv_weight((loops.ofm, loops.ifm, 1, 1), 0).blocked
        return shapes | {
            _PATCHES: (samples, loops.ifm // LANES, loops.oh, loops.ow, LANES),
            _ROWS: self._patch_rows(threads),
            _WEIGHTS if direction == FORWARD else _GRADIENT: weights,
        }

    def of_weights(self, direction: str) -> frozenset[str]:
        """Return the weights that patches are multiplied by."""
        return frozenset({_WEIGHTS}) if direction == FORWARD and self.lowers else frozenset()

    def forward(self, at: Buffers, threads: Threads, epilogue: Epilogue) -> None:
        """Write y as an epilogue leaves it."""
        x, weight = at.x[0], at.weights["weight"]
        if self.lowers:
            x, weight = self._patches(at, threads), at.scratch[_WEIGHTS]  # type: ignore[assignment] # float32
            if not at.prepared:
                patches.patch_weights(threads, at.weights["weight"], weight, self.loops.ifm)
        self.forward_product(at, threads, x, weight, epilogue)

    def backward_weights(self, at: Buffers, threads: Threads, dy: Array, epilogue: Epilogue) -> None:
        """Write the gradient of weight."""
        if not self.lowers:
            self.weights_product(at, threads, at.x[0], dy, at.gradients["weight"])
            return
        gradient: Array = at.scratch[_GRADIENT]  # type: ignore[assignment] # float32, as asked for
        self.weights_product(at, threads, self._patches(at, threads), dy, gradient)
        patches.patch_gradient(threads, gradient, at.gradients["weight"], self.loops.ifm)

    @abstractmethod
    def product_scratch(
        self, direction: str, samples: int, leaves: int, threads: int, *, pools: bool
    ) -> dict[str, Shape]:
        """Return the shapes by name of the working memory of a product, as for `scratch`."""

    @abstractmethod
    def forward_product(
        self, at: Buffers, threads: Threads, x: Array, weight: Array, epilogue: Epilogue
    ) -> None:
        """Write y; x and weight have the extents `multiplied`, and weight any values."""

    @abstractmethod
    def weights_product(self, at: Buffers, threads: Threads, x: Array, dy: Array, gradient: Array) -> None:
        """Write the gradient of weights; x and gradient have the extents `multiplied`."""

    def _patch_rows(self, threads: int) -> Shape:
        loops = self.loops
        return patches.room(loops.ifm, self.kernel, loops.stride, loops.dilation, loops.ow, threads)

    def _patches(self, at: Buffers, threads: Threads) -> Array:
        """Write the patches of x."""
        loops, made = self.loops, at.scratch[_PATCHES]
        patches.make_patches(
            threads, at.x[0], made, loops.ifm, self.kernel, loops.stride, loops.padding, loops.dilation,
            at.scratch[_ROWS],
        )  # fmt: skip
        return made  # type: ignore[return-value] # float32, as asked for
