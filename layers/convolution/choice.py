"""Which algorithm computes a pass of a convolution."""

from layers.convolution import first_layer, pointwise, winograd
from layers.convolution.algorithm import Algorithm
from layers.convolution.direct import Direct
from layers.convolution.first_layer import FirstLayer
from layers.convolution.paired_registers import PairedRegisters
from layers.convolution.paired_tiles import PairedTiles
from layers.convolution.pointwise import Pointwise
from layers.convolution.winograd import Winograd
from layers.kernels.simd import LANES
from layers.layer import Halo, wider
from layers.precision import BF16
from layers.products import Unit
from layers.work import Extents


def chosen(
    direction: str,
    loops: Extents,
    leaf_channels: int,
    *,
    whole_channels: int,
    samples_per_leaf: int,
    winograd_allowed: bool,
    precision: str,
    reads_input: bool,
    unit: Unit,
) -> Algorithm:
    """Return the algorithm of one pass: Winograd's where it exists and gains, else a direct one.

    The choice changes bits, so it follows from the whole layer's shape and the samples of a leaf alone; only
    `unit`, which makes products of bf16, changes none.
    """
    if precision == BF16:
        if unit.tiles is None:
            return PairedRegisters(loops, leaf_channels, rounds_x=reads_input)
        return PairedTiles(loops, leaf_channels, rounds_x=reads_input, unit=unit.tiles)
    if winograd_allowed and winograd.exists(loops):
        algorithm = Winograd(loops, leaf_channels)
        if algorithm.gains(direction, whole_channels, samples_per_leaf):
            return algorithm
    if pointwise.applies(loops):
        return Pointwise(loops, leaf_channels)
    return (FirstLayer if first_layer.applies(loops) else Direct)(loops, leaf_channels)


def input_lanes(loops: Extents) -> int:
    """Return the values of a pixel of a network's input as forward and backward_weights read it best."""
    return loops.ifm if first_layer.applies(loops) and not pointwise.applies(loops) else LANES


def halo(loops: Extents) -> Halo:
    """Return the zero columns beside the rows of x for whatever algorithm is chosen."""
    direct = Direct(loops, loops.ofm).halo()
    return wider(direct, Winograd(loops, loops.ofm).halo()) if winograd.exists(loops) else direct


def gradient_halo(loops: Extents) -> Halo:
    """Return the zero columns beside the rows of dy for whatever algorithm is chosen."""
    direct = Direct(loops, loops.ofm).gradient_halo()
    return wider(direct, Winograd(loops, loops.ofm).gradient_halo()) if winograd.exists(loops) else direct
