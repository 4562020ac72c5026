"""Cache blocking by search: which block of a layer's loops moves the fewest bytes per FLOP.

The model is that of Das et al. 2016 (arXiv:1602.06709, section on cache blocking). A pass is a nest of loops
over minibatch, ofm, ifm, oh, ow, kh, kw, whether of a convolution or of a fully connected layer (a 1x1 map).
A block of it touches

    BS = 4 * (b_mb*b_ofm*b_oh*b_ow + b_mb*b_ifm*b_ih*b_iw + b_ifm*b_ofm*kh*kw)  bytes,
    b_ih = (b_oh - 1) * stride + kh,

which must fit one thread's share of a cache, and does ``2*b_mb*b_ofm*b_ifm*b_oh*b_ow*kh*kw`` FLOP
(`bytes_per_flop` of a block). `search` tries all block sizes and counts what the whole pass moves, uneven
last blocks included, by two rules:

* while the blocks walk along one loop, the operand without that loop stays where it is: it drops out of BS,
  and is moved once in all;
* a result whose sum a later block goes on with is moved out and in again.

The published figures: 0.54 for OverFeat C5 unblocked is one output map from one input map, minibatch 1:
4 * (12*12 + 14*14 + 3*3) / (2 * 12*12 * 3*3) = 0.539. "0.04 or less with 128 KB" is `search`, minibatch 1.

The kernels do not ask the search: it tells how far their loop order is from the best, and which passes are
bound by memory in any order. They take from the model the rows of dy that stay in the first-level cache
(`caches.band_rows`), and its register tiles are theirs. Matrix products and Winograd have blocks of their
own, measured, as these cuts are not in the model.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layers.arithmetic import ceil_div
from layers.kernels.caches import caches
from layers.kernels.conv_direct_weights import tile_shape
from layers.kernels.register_tile import TILE_ROWS
from layers.kernels.simd import LANES
from layers.kernels.tiling import split_rows
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD

PASSES = (FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS)
WALKS = ("ifm", "ofm", "pixels")
"""Loops to walk along; the result images, the input images or the weights stay in the cache."""

FLOAT = 4
L2_SHARE = 1 / 2  # for one block; the rest is for what streams through


@dataclass(frozen=True)
class Nest:
    """The loops of one pass, in the words of forward: images of ifm become images of ofm.

    `backward_data` is the nest of a convolution from dy to dx: its ofm are the layer's input channels, its
    oh x ow the layer's input image.
    """

    direction: str
    minibatch: int
    ofm: int
    ifm: int
    oh: int
    ow: int
    kh: int
    kw: int
    stride: int

    def flops(self) -> float:
        """Return the FLOP of the whole pass."""
        return self.flops_of(Block(self.minibatch, self.ofm, self.ifm, self.oh, self.ow))

    def flops_of(self, block: "Block") -> float:
        """Return the FLOP of a block; of backward_data only every stride-th tap meets a pixel of dy."""
        pixels = block.minibatch * block.oh * block.ow
        return 2 * pixels * block.ofm * block.ifm * self._taps()

    def _taps(self) -> float:
        taps = self.kh * self.kw
        return taps / self.stride**2 if self.direction == BACKWARD_DATA else taps

    def operand_bytes(self, block: "Block") -> tuple[Any, Any, Any]:
        """Return the bytes of a block of the result images, the input images and the weights."""
        pixels = block.minibatch * block.oh * block.ow
        source = block.minibatch * self.reach(block.oh, self.kh) * self.reach(block.ow, self.kw)
        return (
            FLOAT * pixels * block.ofm,
            FLOAT * source * block.ifm,
            FLOAT * block.ofm * block.ifm * self.kh * self.kw,
        )

    def reach(self, outputs: Any, taps: int) -> Any:
        """Return the input rows (columns) that `outputs` rows (columns) read: a number or an array."""
        if self.direction == BACKWARD_DATA:
            return (outputs + taps - 2) // self.stride + 1
        return (outputs - 1) * self.stride + taps


def nest(
    direction: str,
    minibatch: int,
    channels: tuple[int, int],
    image: tuple[int, int] = (1, 1),
    kernel: tuple[int, int] = (1, 1),
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
) -> Nest:
    """Return the loops of one pass over a convolution or, by default, over a fully connected layer.

    Parameters
    ----------
    direction : one of PASSES
    channels : (input, output)
    image : (rows, columns) of the input
    """
    if direction not in PASSES:
        raise ValueError(f"pass: got {direction!r}, must be one of {', '.join(PASSES)}")
    (c, k), (r, s) = channels, kernel
    rows, columns = ((image[i] + 2 * padding[i] - kernel[i]) // stride + 1 for i in range(2))
    if direction == BACKWARD_DATA:
        return Nest(direction, minibatch, c, k, *image, r, s, stride)
    return Nest(direction, minibatch, k, c, rows, columns, r, s, stride)


@dataclass(frozen=True)
class Block:
    """Sizes of a block of the loops over minibatch, ofm, ifm, oh and ow."""

    minibatch: int
    ofm: int
    ifm: int
    oh: int
    ow: int


def bytes_per_flop(loops: Nest, block: Block) -> float:
    """Return BS / FLOP of a block by the formula: all three operands are moved with each block."""
    return float(sum(loops.operand_bytes(block))) / loops.flops_of(block)


@dataclass(frozen=True)
class TileShape:
    """A register tile: rows x vectors accumulators.

    Rows are pixels of an image row (samples of a fully connected layer); in backward_weights input channels.
    Vectors run along output channels. `tail` rows are left over at the end of a row, 0 if none.
    """

    rows: int
    tail: int
    vectors: int

    def __str__(self) -> str:
        return f"{self.rows}{f'+{self.tail}' if self.tail else ''} x {self.vectors}"


@dataclass(frozen=True)
class Blocking:
    """The choice of the search for one pass, and its prediction."""

    block: Block
    walk: str
    """The loop of WALKS along which the blocks go."""
    tile: TileShape
    block_bytes: int
    bytes_per_flop: float
    """Traffic behind the cache."""

    def bound(self, peak_flops: float, bandwidth_bytes_per_s: float) -> str:
        """Return "memory" where the traffic takes longer than the arithmetic, else "compute"."""
        return "memory" if self.bytes_per_flop * peak_flops > bandwidth_bytes_per_s else "compute"


@lru_cache(maxsize=4096)
def search(loops: Nest, cache_bytes: int = 0) -> Blocking:
    """Return the block and walk of least traffic; of equals the smallest block.

    Every number of vectors of channels, of register tiles of columns, of rows and of samples is tried that
    cuts its loop into another number of parts. Several samples share a block only where it holds whole
    images: rows of one image share their rims, so they are never worse.

    Parameters
    ----------
    cache_bytes : int
        What a block may take; 0: L2_SHARE of this host's second-level cache.

    Raises
    ------
    ValueError
        If not even the smallest block fits.
    """
    budget = cache_bytes or int(L2_SHARE * caches().l2)
    tile = register_tile(loops)
    ofm, ifm = _cuts(loops.ofm, LANES * tile.vectors), _cuts(loops.ifm, LANES)
    mb, oh, ow = _spatial_cuts(loops).T
    blocks = Block(mb, ofm[:, None, None], ifm[:, None], oh, ow)  # type: ignore[arg-type] # arrays: all at once
    result, source, weights = loops.operand_bytes(blocks)
    size = result + source + weights
    fits = size <= budget
    if not fits.any():
        raise ValueError(f"{loops}: no block fits {budget} bytes; the smallest has {int(np.min(size))}")
    cost = np.stack([np.where(fits, _traffic(loops, blocks, walk), np.inf) for walk in WALKS])
    cost = (cost / loops.flops()).round(9)  # equal sums that were rounded differently are equal
    place = np.lexsort((np.broadcast_to(size, cost.shape).ravel(), cost.ravel()))[0]
    walk, k, c, p = np.unravel_index(place, cost.shape)
    block = Block(int(mb[p]), int(ofm[k]), int(ifm[c]), int(oh[p]), int(ow[p]))
    return Blocking(block, WALKS[walk], tile, int(size[k, c, p]), float(cost[walk, k, c, p]))


def _traffic(loops: Nest, block: Block, walk: str) -> Any:
    """Return the bytes that the whole pass moves behind the cache."""
    parts = {
        "ifm": ceil_div(loops.ifm, block.ifm),
        "ofm": ceil_div(loops.ofm, block.ofm),
        "pixels": ceil_div(loops.minibatch, block.minibatch)
        * ceil_div(loops.oh, block.oh)
        * ceil_div(loops.ow, block.ow),
    }
    images = (
        loops.minibatch
        * _rims(loops, loops.oh, block.oh, loops.kh)
        * _rims(loops, loops.ow, block.ow, loops.kw)
    )
    sizes = {  # of each operand, by the loop that it does not have
        "ifm": loops.minibatch * loops.oh * loops.ow * loops.ofm,
        "ofm": images * loops.ifm,
        "pixels": loops.ofm * loops.ifm * loops.kh * loops.kw,
    }
    result = "pixels" if loops.direction == BACKWARD_WEIGHTS else "ifm"
    total = 0
    for absent, floats in sizes.items():
        times = 1 if absent == walk else parts[absent]
        total = total + FLOAT * floats * (2 * times - 1 if absent == result else times)
    return total


def _rims(loops: Nest, length: int, block: Any, taps: int) -> Any:
    """Return the input rows (columns) that all blocks along one loop read, common rims once for each."""
    whole, rest = length // block, length % block
    return whole * loops.reach(block, taps) + np.where(rest > 0, loops.reach(rest, taps), 0)


def _cuts(length: int, unit: int) -> NDArray[np.int64]:
    """Return the block sizes, multiples of `unit`, that cut `length` into different numbers of parts."""
    units = ceil_div(length, unit)
    sizes = sorted({ceil_div(units, parts) for parts in range(1, units + 1)})
    return np.array([min(unit * size, length) for size in sizes])


def _spatial_cuts(loops: Nest) -> NDArray[np.int64]:
    """Return the block sizes to try, as rows of (minibatch, oh, ow)."""
    if loops.oh * loops.ow == 1:  # fully connected: the samples take the place of the pixels
        return np.array([(n, 1, 1) for n in _cuts(loops.minibatch, TILE_ROWS)])
    parts = [(1, i, j) for i in _cuts(loops.oh, 1) for j in _cuts(loops.ow, TILE_ROWS)]
    whole = [(n, loops.oh, loops.ow) for n in _cuts(loops.minibatch, 1) if n > 1]
    return np.array(parts + whole)


def register_tile(loops: Nest) -> TileShape:
    """Return the tile of the kernel that computes a pass directly."""
    vectors, is_fully_connected = ceil_div(loops.ofm, LANES), loops.oh * loops.ow == 1
    if loops.direction == BACKWARD_WEIGHTS and not is_fully_connected:
        rows, vectors = tile_shape(vectors, ceil_div(loops.ifm, LANES), loops.ifm)
        return TileShape(rows, 0, vectors)
    height = loops.minibatch if is_fully_connected else loops.ow
    if loops.direction == BACKWARD_WEIGHTS:
        height = loops.ifm
    return TileShape(*split_rows(height, TILE_ROWS), 2 if vectors % 2 == 0 else 1)
