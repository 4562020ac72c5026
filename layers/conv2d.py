"""Two-dimensional convolution."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Self

from layers import layout
from layers.arithmetic import is_power_of_two
from layers.bias import bias_gradient, onnx_inputs, unused_gradient, weight_and_bias
from layers.convolution import choice
from layers.convolution.algorithm import Algorithm
from layers.convolution.geometry import Padding, convolved_size, onnx_attributes, pads_of, pair
from layers.convolution.pointwise import Joined, Pointwise
from layers.kernels import add, conv_direct, conv_direct_weights
from layers.kernels.conv_algorithm import channels_per_leaf
from layers.kernels.epilogue import PLAIN, Epilogue
from layers.kernels.leaves import stack_depth
from layers.kernels.runs import runs_of_leaf
from layers.kernels.simd import LANES
from layers.layer import NO_HALO, Array, Buffers, Context, Halo, Layer, Parameter, Scratch, Shape
from layers.onnx_form import OnnxForm, OnnxNode
from layers.precision import FP32, check_precision
from layers.products import Unit
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD, PASSES, Extents

ALGORITHMS = ("auto", "direct")

_KEPT = 1 << 10  # layers whose choices are kept from one step to the next: a small layer takes no longer


@dataclass(frozen=True)
class Conv2d(Layer):
    """y[n, k, i, j] = bias[k] + sum of x[n, c, i*stride + u*dilation - pad, ...] * weight[k, c, u, v].

    Parameters
    ----------
    out_channels : int
    kernel : int or (rows, columns)
    stride : int
    padding : int, (rows, columns) or ((above, below), (left, right))
        Zeros around the image; only the last form may differ from side to side.
    gain : float
        The initial weights have the variance gain / fan_in: 2 suits ReLU (He et al. 2015).
    algorithm : str
        "auto": for each pass Winograd where it gains, else direct; "direct": never Winograd.
    feature_leaves : int
        A power of two, the most equal runs of output channels (feature leaves) into which backward_data cuts
        its sum; the sums of the leaves are added as a tree.
    parts : int
        Number of layers like this one, each with its own `out_channels`, that make up the whole layer.
    bias : bool
        False where a normalisation follows, which would take it off again.
    dilation : int
        Distance of the pixels that neighbouring taps meet; above 1 the algorithm is the direct one.
    identity : bool
        The first outputs begin as the inputs of their number (Dirac), as far as there are both; the others as
        usual. It suits deep networks without shortcuts.
    precision : str
        "bf16": weights are rounded to bf16, x and dy hold such values, and sums are fp32
        (`layers.kernels.paired_tile`); "fp32".
    reads_input : bool
        x is the network's input, which holds any values; with bf16 it is rounded.
    unit : Unit
        What makes products of bf16; it changes no bit.
    """

    out_channels: int
    kernel: int | tuple[int, int]
    stride: int = 1
    padding: Padding = 0
    gain: float = 2.0
    algorithm: str = "auto"
    feature_leaves: int = 1
    parts: int = 1
    bias: bool = True
    dilation: int = 1
    identity: bool = False
    precision: str = FP32
    reads_input: bool = False
    unit: Unit = field(default=Unit.REGISTERS, repr=False)

    reads_x = True

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm: got {self.algorithm!r}; must be one of {', '.join(ALGORITHMS)}")
        check_precision(self.precision)
        if min(*self.kernel_size, self.stride, self.dilation, self.out_channels) < 1 or min(self.pads) < 0:
            raise ValueError(
                f"{self}: channels, kernel, stride and dilation must be at least 1, padding at least 0"
            )
        if not is_power_of_two(self.feature_leaves):
            raise ValueError(f"{self}: feature_leaves must be a power of two")

    @property
    def kernel_size(self) -> tuple[int, int]:
        """Rows and columns of the kernel."""
        return pair(self.kernel)

    @property
    def pads(self) -> tuple[int, int, int, int]:
        """Zeros above, left of, below and right of the image."""
        return pads_of(self.padding)

    @property
    def _leaf_channels(self) -> int:
        """Output channels of a feature leaf: a function of the whole layer, not of its parts."""
        return channels_per_leaf(self.parts * self.out_channels, self.feature_leaves)

    def shard(self, parts: int) -> tuple[Self, ...]:
        """Return one layer for each of `parts` equal runs of feature leaves."""
        channels = self.out_channels
        most = channels // channels_per_leaf(channels, channels)
        if most % parts:
            raise ValueError(
                f"out_channels={channels} has no {parts} runs of whole vectors of {LANES} channels; must be "
                f"a power of two up to {most}"
            )
        if self.feature_leaves % parts:
            raise ValueError(
                f"conv_feature_leaves={self.feature_leaves} is less than the {parts} parts; must be at least "
                f"{parts}"
            )
        return (replace(self, out_channels=channels // parts, parts=parts),) * parts

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (out_channels, OH, OW)."""
        (shape,) = inputs
        size = convolved_size(shape, self.kernel_size, self.stride, self.padding, self.dilation)
        return self.out_channels, *size

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """Return weight (OIHW) and bias."""
        ((channels, _, _),) = inputs
        weight = layout.conv_weight((self.out_channels, channels, *self.kernel_size), self.gain)
        if self.identity:
            weight = replace(weight, identity_rows=min(self.parts * self.out_channels, channels))
        return weight_and_bias(weight, self.out_channels, biased=self.bias)

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return the working memory of all passes."""
        return self.scratch_before(samples, leaves, threads, *inputs, pools=False)

    def scratch_before(
        self, samples: int, leaves: int, threads: int, *inputs: Shape, pools: bool
    ) -> dict[str, Scratch]:
        """Return the working memory of all passes; `pools`: of a layer that 2x2 maximum pooling follows."""
        ((channels, _, _),) = inputs
        partial_dxs = stack_depth(self.out_channels // self._leaf_channels) - 1  # beside dx itself
        _, *image = self.output_shape(*inputs)
        runs = runs_of_leaf(samples // leaves, *image)
        shapes: dict[str, Shape] = {
            "transposed": layout.conv_weight((channels, self._leaf_channels, *self.kernel_size), 0).blocked,
            "bias_stack": (threads, stack_depth(leaves * runs), LANES),
            "data_stack": (partial_dxs, *layout.storage_shape(inputs[0], samples, NO_HALO)),
        }
        of_weights = set[str]()
        for direction in PASSES:
            algorithm = self.algorithm_of(direction, samples // leaves, *inputs)
            shapes |= algorithm.scratch(direction, samples, leaves, threads, pools=pools)
            if direction != BACKWARD_DATA:
                of_weights |= algorithm.of_weights(direction)
            elif not partial_dxs:
                of_weights |= algorithm.of_weights(direction) or {"transposed"}
        scratch = {name: Scratch(shape, of_weights=name in of_weights) for name, shape in shapes.items()}
        return scratch | unused_gradient(self.out_channels, biased=self.bias)

    def algorithm_of(self, direction: str, samples_per_leaf: int, *inputs: Shape) -> Algorithm:
        """Return the algorithm that computes a pass."""
        return _algorithm(self, direction, samples_per_leaf, inputs)

    def halo(self, *inputs: Shape) -> Halo:
        """Return the columns that the kernel, or a Winograd window, reaches beyond a row of x."""
        return choice.halo(self.extents(*inputs))

    def gradient_halo(self, *inputs: Shape) -> Halo:
        """Return the columns that backward_data, or a Winograd window, reaches beyond a row of dy."""
        return _gradient_halo(self, inputs)

    def input_lanes(self, *inputs: Shape) -> int:
        """Return the number of channels of a first layer, else LANES."""
        return choice.input_lanes(self.extents(*inputs))

    def extents(self, *inputs: Shape) -> Extents:
        """Return the extents of the loops over maps, kernel and pixels."""
        ((channels, height, width),) = inputs
        _, rows, columns = self.output_shape(*inputs)
        return Extents(
            channels, self.out_channels, *self.kernel_size, rows, columns, height, width, self.stride,
            self.pads[:2], self.dilation,
        )  # fmt: skip

    def is_winograd(self, direction: str, samples_per_leaf: int, *inputs: Shape) -> bool:
        """Return whether a pass uses Winograd's algorithm."""
        return self.algorithm_of(direction, samples_per_leaf, *inputs).is_winograd

    def executed_flops(self, direction: str, samples: int, leaves: int, *inputs: Shape) -> int:
        """Return the FLOP of the multiply-adds that the kernels of a pass execute."""
        algorithm = self.algorithm_of(direction, samples // leaves, *inputs)
        return algorithm.executed_flops(direction, samples)

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return Conv."""
        attributes = onnx_attributes(self.kernel_size, self.stride, self.padding, self.dilation)
        return (OnnxNode("Conv", onnx_inputs(biased=self.bias), attributes=attributes),)

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        self.convolve(at, run, PLAIN)

    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Write the gradients of weight and bias."""
        (dy,) = at.dy
        self.weight_gradient(at, run, dy, PLAIN)
        self.bias_gradient(at, run, dy)

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        self.data_gradient(at, run, at.dy[0])

    def can_join(self, *inputs: Shape) -> bool:
        """Say whether `data_gradient` can join dx with the gradient of another reader of x."""
        algorithm = self.algorithm_of(BACKWARD_DATA, 1, *inputs)
        is_one_leaf = self._leaf_channels == self.out_channels
        return isinstance(algorithm, Pointwise) and self.stride == 1 and is_one_leaf

    def convolve(self, at: Buffers, run: Context, epilogue: Epilogue) -> None:
        """Write y as an epilogue leaves it."""
        self._algorithm_at(at, FORWARD).forward(at, run.threads, epilogue)

    def weight_gradient(self, at: Buffers, run: Context, dy: Array, epilogue: Epilogue) -> None:
        """Write the gradient of weight; dy and epilogue as for `Algorithm.backward_weights`."""
        self._algorithm_at(at, BACKWARD_WEIGHTS).backward_weights(at, run.threads, dy, epilogue)

    def bias_gradient(self, at: Buffers, run: Context, dy: Array) -> None:
        """Write the gradient of bias from the convolution's own dy, unless `weight_gradient` has."""
        if not self.bias or self._algorithm_at(at, BACKWARD_WEIGHTS).makes_bias_gradient:
            return
        conv_direct_weights.bias_gradient(
            run.threads, dy, at.scratch["bias_stack"], bias_gradient(at), at.leaves
        )

    def data_gradient(self, at: Buffers, run: Context, dy: Array, joined: Joined | None = None) -> None:
        """Write dx from the gradient of the convolution's own result: feature leaves as a tree.

        `joined` only where `can_join` allows it.
        """
        algorithm = self._algorithm_at(at, BACKWARD_DATA)
        transposed: Array = at.scratch["transposed"]  # type: ignore[assignment] # float32, as asked for
        partial_dxs = [at.dx[0], *at.scratch["data_stack"]]
        if at.prepared and len(partial_dxs) > 1:  # the leaves take turns in the working memory
            at = replace(at, prepared=False)
        blocks, top = layout.blocks(self._leaf_channels), 0
        for leaf, first in enumerate(range(0, dy.shape[1], blocks)):
            if not at.prepared:
                conv_direct.transpose_weights(run.threads, at.weights["weight"], transposed, first)
            leaf_dy = dy[:, first : first + blocks]
            if joined is None:
                algorithm.backward_data(at, run.threads, leaf_dy, transposed, partial_dxs[top])
            else:
                assert isinstance(algorithm, Pointwise)
                algorithm.backward_data(at, run.threads, leaf_dy, transposed, at.dx[0], joined)
            top = add.tree_add(run.threads, partial_dxs, top, leaf)

    def _algorithm_at(self, at: Buffers, direction: str) -> Algorithm:
        return self.algorithm_of(direction, len(at.x[0]) // at.leaves, *at.shapes)


@lru_cache(maxsize=_KEPT)
def _algorithm(conv: Conv2d, direction: str, samples_per_leaf: int, inputs: tuple[Shape, ...]) -> Algorithm:
    return choice.chosen(
        direction,
        conv.extents(*inputs),
        conv._leaf_channels,
        whole_channels=conv.parts * conv.out_channels,
        samples_per_leaf=samples_per_leaf,
        winograd_allowed=conv.algorithm == "auto",
        precision=conv.precision,
        reads_input=conv.reads_input,
        unit=conv.unit,
    )


@lru_cache(maxsize=_KEPT)
def _gradient_halo(conv: Conv2d, inputs: tuple[Shape, ...]) -> Halo:
    return choice.gradient_halo(conv.extents(*inputs))
