"""Fully connected layer."""

from dataclasses import dataclass, field, replace
from typing import Self

from layers import layout
from layers.arithmetic import ceil_div
from layers.bias import bias, bias_gradient, onnx_inputs, unused_gradient, weight_and_bias
from layers.kernels import bf16, fully_connected, linear_tiles, packing
from layers.kernels.simd import LANES
from layers.kernels.tile_unit import TileUnit
from layers.layer import Array, Buffers, Context, Layer, Parameter, Scratch, Shape
from layers.onnx_form import OnnxForm, OnnxNode
from layers.precision import BF16, FP32, check_precision
from layers.products import Unit
from layers.tiles import largest, packed
from layers.work import Extents

_ROUNDED = "bf16_weights"


@dataclass(frozen=True)
class Linear(Layer):
    """y[n, k] = bias[k] + sum over c of x[n, c] * weight[k, c].

    Parameters
    ----------
    out_features : int
    gain : float
        The initial weights have the variance gain / fan_in: 2 suits a layer with ReLU behind it, 1 one
        without.
    leaf : int
        Output features over which backward_data sums in order; the sums of these feature leaves are added as
        a tree. 0: chosen from `out_features`. A shard keeps the leaf of its whole layer, so its leaves are a
        subtree.
    bias : bool
        False: y has none.
    precision : str
        "bf16": x and weights are rounded to bf16, dy holds such values, and sums are fp32
        (`layers.kernels.paired_tile`); "fp32".
    unit : Unit
        What makes products of bf16; it changes no bit.
    """

    out_features: int
    gain: float = 2.0
    leaf: int = 0
    bias: bool = True
    precision: str = FP32
    unit: Unit = field(default=Unit.REGISTERS, repr=False)

    reads_x = True

    def __post_init__(self) -> None:
        if self.out_features < 1:
            raise ValueError(f"{self}: out_features must be at least 1")
        if self.leaf < 0 or self.leaf % fully_connected.LEAF_UNIT:
            raise ValueError(f"{self}: leaf must be a multiple of {fully_connected.LEAF_UNIT}, or 0")
        check_precision(self.precision)

    @property
    def _paired(self) -> bool:
        return self.precision == BF16

    @property
    def _tiles(self) -> TileUnit | None:
        return self.unit.tiles if self._paired else None

    @property
    def feature_leaf(self) -> int:
        """Output features of a feature leaf."""
        return self.leaf or fully_connected.outputs_per_leaf(self.out_features)

    @property
    def feature_leaves(self) -> int:
        """Number of feature leaves."""
        return ceil_div(self.out_features, self.feature_leaf)

    def shard(self, parts: int) -> tuple[Self, ...]:
        """Return one layer for each of `parts` equal runs of feature leaves; the last may be shorter."""
        leaves, leaf = self.feature_leaves, self.feature_leaf
        if leaves % parts:
            raise ValueError(
                f"out_features={self.out_features} has {leaves} feature leaves, which {parts} parts cannot "
                f"share; must be a power of two up to {leaves}"
            )
        width = leaves // parts * leaf
        starts = range(0, self.out_features, width)
        return tuple(
            replace(self, out_features=min(width, self.out_features - start), leaf=leaf) for start in starts
        )

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (out_features,)."""
        (shape,) = inputs
        if len(shape) != 1:
            raise ValueError(
                f"a fully connected layer wants vectors, got samples of shape {shape}: put Flatten before it"
            )
        return (self.out_features,)

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """Return weight ([out, in]) and bias."""
        ((features,),) = inputs
        weight = layout.linear_weight((self.out_features, features), self.gain)
        return weight_and_bias(weight, self.out_features, biased=self.bias)

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return working memory for packed operands and for partial sums."""
        ((features,),) = inputs
        c, k = layout.blocks(features) * LANES, layout.blocks(self.out_features) * LANES
        unused = unused_gradient(self.out_features, biased=self.bias)
        if self._tiles is not None:
            products = (
                linear_tiles.forward_product(samples, c, k),
                linear_tiles.data_product(samples, c, k, self.feature_leaf),
                linear_tiles.weights_product(samples, c, k, leaves),
            )
            shapes = largest(*(product.room(threads) for product in products))
            return unused | {name: Scratch(shape) for name, shape in shapes.items()}
        paired = self._paired
        packed_x = max(
            fully_connected.tiles_floats(samples, c, paired=paired),
            fully_connected.slices_floats(c, leaves, samples, paired=paired),
        )
        width = layout.group(self.out_features) * LANES
        scratch = unused | {
            "packed_x": Scratch((packed_x,)),
            "packed_y": Scratch((packing.panels_floats(samples, k),)),
            "data_stack": Scratch(
                fully_connected.data_stack_shape(samples, c, self.feature_leaves, threads, paired=paired)
            ),
            "weight_stack": Scratch(fully_connected.weight_stack_shape(leaves, width, threads)),
        }
        if paired:
            scratch[_ROUNDED] = Scratch((k // width, c, width), of_weights=True)
        return scratch

    def extents(self, *inputs: Shape) -> Extents:
        """Return the extents of the loops over input and output features."""
        return Extents(inputs[0][0], self.out_features)

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return Gemm, with the weight transposed: it is [out, in]."""
        return (OnnxNode("Gemm", onnx_inputs(biased=self.bias), attributes={"transB": 1}),)

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        (x,), (y,) = at.x, at.y
        if self._tiles is not None:
            weight = at.weights["weight"]
            linear_tiles.forward(run.threads, self._tiles, x, weight, bias(at), y, packed(at))
            return
        fully_connected.forward(
            run.threads, x, self._weights(at, run, is_made=at.prepared), bias(at), y, at.scratch["packed_x"],
            paired=self._paired,
        )  # fmt: skip

    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Write the gradients of weight and bias."""
        (x,), (dy,), scratch = at.x, at.dy, at.scratch
        if self._tiles is not None:
            linear_tiles.backward_weights(
                run.threads, self._tiles, x, dy, packed(at), at.gradients["weight"], bias_gradient(at),
                at.leaves,
            )  # fmt: skip
            return
        fully_connected.backward_weights(
            run.threads, x, dy, scratch["packed_x"], scratch["packed_y"], scratch["weight_stack"],
            at.gradients["weight"], bias_gradient(at), at.leaves, paired=self._paired,
        )  # fmt: skip

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        (dy,), (dx,), scratch = at.dy, at.dx, at.scratch
        if self._tiles is not None:
            weight = at.weights["weight"]
            linear_tiles.backward_data(
                run.threads, self._tiles, dy, weight, dx, packed(at), self.feature_leaf
            )
            return
        fully_connected.backward_data(
            run.threads, dy, self._weights(at, run, is_made=at.prepared), dx, scratch["packed_y"],
            scratch["data_stack"], self.feature_leaf, paired=self._paired,
        )  # fmt: skip

    def _weights(self, at: Buffers, run: Context, *, is_made: bool) -> Array:
        """Return the weights as the products read them."""
        weights = at.weights["weight"]
        if not self._paired:
            return weights
        rounded: Array = at.scratch[_ROUNDED]  # type: ignore[assignment] # float32, as asked for
        if not is_made:
            bf16.round_values(run.threads, weights.reshape(-1), rounded.reshape(-1))
        return rounded
