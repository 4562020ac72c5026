"""A cost model that chooses the algorithm of a convolution's pass from the layer's shape alone.

Never measured at run time, and never dependent on the local minibatch, ranks or threads: the choice changes
the order of sums, and so the bits. The unit of cost is one multiply-add of the register tile per lane; the
constants were calibrated on VGG-A's and OverFeat-FAST's layers on a Xeon with AVX-512.
"""

from layers.arithmetic import ceil_div
from layers.kernels.simd import LANES
from layers.kernels.winograd_transforms import POINTS

POSITIONS = POINTS * POINTS
TRANSFORM = 30  # cost of transforming one position of one channel of one tile, either way, in multiply-adds
BLOCK_TRANSFORM = 24  # the same where source and target are in cache
BLOCK_CHANNELS = 64  # of x for which dy counts as transformed once, and the other way round: cautious
WEIGHT_TRANSFORM = 12  # one position of one weight, transformed back and added to the tree

OUTPUTS = {3: 4, 5: 2}
"""M of F(M x M, R x R) by R."""


def channels_per_leaf(out_channels: int, most: int) -> int:
    """Return the output channels of a feature leaf, over which backward_data sums in order.

    Leaves are equal and of whole vectors. Their number is the largest power of two up to `most` that allows
    it.
    """
    leaves = 1
    while 2 * leaves <= most and out_channels % (2 * leaves * LANES) == 0:
        leaves *= 2
    return out_channels // leaves


def winograd_outputs(kernel: tuple[int, int], stride: int) -> int:
    """Return M where a Winograd algorithm exists for the kernel (rows, columns), else 0."""
    return OUTPUTS.get(kernel[0], 0) if kernel[0] == kernel[1] and stride == 1 else 0


def forward_is_winograd(
    channels: int, out_channels: int, kernel: tuple[int, int], stride: int, rows: int, columns: int
) -> bool:
    """Return whether forward (or backward_data, with the channels exchanged) gains by Winograd.

    `rows` and `columns` are those of the pass's result.
    """
    outputs = winograd_outputs(kernel, stride)
    if outputs == 0:
        return False
    tiles = ceil_div(rows, outputs) * ceil_div(columns, outputs)
    weights = channels * out_channels
    direct = rows * columns * weights * kernel[0] * kernel[1]
    return tiles * POSITIONS * (weights + TRANSFORM * (channels + out_channels)) < direct


def backward_weights_is_winograd(
    channels: int,
    out_channels: int,
    kernel: tuple[int, int],
    stride: int,
    rows: int,
    columns: int,
    samples_per_leaf: int,
) -> bool:
    """Return whether the weight gradient gains by Winograd, with one inverse transform a leaf."""
    outputs = winograd_outputs(kernel, stride)
    if outputs == 0:
        return False
    tiles = samples_per_leaf * ceil_div(rows, outputs) * ceil_div(columns, outputs)
    weights = channels * out_channels
    direct = samples_per_leaf * rows * columns * weights * kernel[0] * kernel[1]
    again = out_channels / min(out_channels, BLOCK_CHANNELS), channels / min(channels, BLOCK_CHANNELS)
    transforms = BLOCK_TRANSFORM * (channels * again[0] + out_channels * again[1])
    return POSITIONS * (tiles * (weights + transforms) + WEIGHT_TRANSFORM * weights) < direct
