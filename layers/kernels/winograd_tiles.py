"""The tiles that a Winograd convolution cuts an image into, and where their transforms lie in memory.

A tile is M x M outputs; its window is the POINTS x POINTS inputs that it reads. The tiles of a minibatch are
numbered sample by sample and row by row, each row left to right.

Kernels pass addresses and strides to these helpers, not arrays: an array handed to a function counts as one
more reference, which costs more than a transform.
"""

from typing import NamedTuple

from numba import float32, int64, types

from layers.arithmetic import ceil_div, round_up
from layers.kernels.jit import inline
from layers.kernels.simd import LANES, prefetch_pixels
from layers.kernels.winograd_transforms import INPUT, POINTS, transform_rows

POSITIONS = POINTS * POINTS
WEIGHTS = float32[:, :, :, :, :, ::1]
SCRATCH = float32[:, :, ::1]


class Grid(NamedTuple):
    """The tiles of one image: rows and columns of them, M, and the rows and columns of padding."""

    down: int
    along: int
    outputs: int
    pad_h: int
    pad_w: int


GRID = types.NamedUniTuple(int64, 5, Grid)


class Image(NamedTuple):
    """Where a minibatch of images begins; distances in bytes of samples, blocks and rows; and its rows."""

    address: int
    sample: int
    block: int
    row: int
    height: int


class Positions(NamedTuple):
    """Where transformed tiles begin, and the distance of their POSITIONS in floats."""

    address: int
    position: int


class Place(NamedTuple):
    """One tile: its sample, and its row and column among the tiles of the image."""

    n: int
    i: int
    j: int


def padded_position(floats: int) -> int:
    """Return the distance of positions that hold `floats`: 64 bytes more than a multiple of 4096.

    At a multiple of 4096 bytes the 36 streams of a transform would fall into the same cache sets.
    """
    return round_up(floats, 1024) + 16


def tile_counts(rows: int, columns: int, outputs: int) -> tuple[int, int]:
    """Return the tiles along both sides of a map of outputs."""
    return ceil_div(rows, outputs), ceil_div(columns, outputs)


@inline
def image_of(x):
    """Describe the images of an array."""
    return Image(int64(x.ctypes.data), x.strides[0], x.strides[1], x.strides[2], x.shape[2])


@inline
def place_of(tile, grid):
    """Return the place of the tile with a number."""
    n, rest = divmod(tile, grid.down * grid.along)
    i, j = divmod(rest, grid.along)
    return Place(n, i, j)


@inline
def next_place(place, grid):
    """Return the place of the tile behind another."""
    n, i, j = place
    j += 1
    if j == grid.along:
        i, j = i + 1, 0
        if i == grid.down:
            n, i = n + 1, 0
    return Place(n, i, j)


@inline
def row_or_zeros(plane, row, row_bytes, height, zeros):
    """Return the address of a row of the image that begins at `plane`, or `zeros` outside the image."""
    return plane + row * row_bytes if 0 <= row < height else zeros


@inline
def fetch_below(image, block, place, outputs, reach):
    """Ask for the pixels of a block that the tile below one needs first; `reach` rows beyond its outputs."""
    row = (place.i + 1) * outputs + reach
    corner = image.address + place.n * image.sample + block * image.block
    corner += row * image.row + 4 * place.j * outputs * LANES
    if outputs == 4:
        prefetch_pixels(corner, image.row, 4)
    else:
        prefetch_pixels(corner, image.row, 2)


@inline
def transform_window(x, block, place, grid, zeros, target, row_step, column_step):
    """Write B^T d B of the window of a tile, of LANES channels.

    Parameters
    ----------
    x : Image
    zeros : int64
        Address of as many zeros as a window's row has: of the rows outside the image.
    target : int64
        Address of the first position; the next row and column are `row_step` and `column_step` floats on.
    """
    left = place.j * grid.outputs - grid.pad_w
    top = place.i * grid.outputs - grid.pad_h
    plane = x.address + place.n * x.sample + block * x.block + 4 * left * LANES
    rows = (
        row_or_zeros(plane, top, x.row, x.height, zeros),
        row_or_zeros(plane, top + 1, x.row, x.height, zeros),
        row_or_zeros(plane, top + 2, x.row, x.height, zeros),
        row_or_zeros(plane, top + 3, x.row, x.height, zeros),
        row_or_zeros(plane, top + 4, x.row, x.height, zeros),
        row_or_zeros(plane, top + 5, x.row, x.height, zeros),
    )
    transform_rows(INPUT, 4, rows, LANES, target, row_step, column_step)  # B^T is the same for every M
