"""Packing of matrices into the order in which register tiles read them, and unpacking.

Two ways to the same form, [tile][k][pitch]: the columns of a tile lie side by side (`pack_slices`),
or have to be transposed (`pack_columns`).
"""

from functools import lru_cache

from numba import float32, int64

from layers.arithmetic import ceil_div, round_up
from layers.kernels.jit import inline, kernel
from layers.kernels.register_tile import TILE_ROWS
from layers.kernels.simd import LANES, WIDTH, copy_registers, transpose
from layers.kernels.threads import Threads
from layers.kernels.tiling import split_rows

MATRIX = float32[:, ::1]
PACKED = float32[::1]
SLAB = 8  # rows that one task of pack_slices repacks: as many streams of reads


def pitch(width: int) -> int:
    """Return the floats of a tile's row of `width`, rounded up to registers."""
    return round_up(width, WIDTH)


def tiles_floats(count: int, depth: int, most: int = TILE_ROWS) -> int:
    """Return the size of `count` rows or columns packed as tiles of the rows that `split_rows` chooses."""
    rows, _ = split_rows(count, most)
    return ceil_div(count, rows) * depth * pitch(rows)


def slices_floats(count: int, depth: int, width: int, pitch: int) -> int:
    """Return the size of `count` columns packed as slices of `width`."""
    return ceil_div(count, width) * depth * pitch


def panels_floats(count: int, depth: int) -> int:
    """Return the size of `count` rows packed as panels of one or two vectors."""
    return round_up(count, 2 * LANES) * depth


def pack_columns(threads: Threads, x, packed, width: int) -> None:
    """Lay out x, [N, F], as [N/width][F][pitch(width)], absent rows of x as zeros.

    What lies between width and pitch means nothing.
    """
    assert packed.size >= ceil_div(len(x), width) * x.shape[1] * pitch(width)
    blocks = ceil_div(x.shape[1], WIDTH)
    threads.run(_pack_columns(), ceil_div(len(x), width) * blocks, x.size, x, packed, width, pitch(width))


@lru_cache
def _pack_columns():
    @kernel(int64, int64, int64, MATRIX, PACKED, int64, int64)
    def pack_columns(worker, first, last, x, packed, width, pitch):
        samples, features = x.shape
        blocks = ceil_div(features, WIDTH)
        for task in range(first, last):
            tile, block = divmod(task, blocks)
            f0 = block * WIDTH
            for v in range(0, pitch, WIDTH):
                n0 = tile * width + v
                at = (tile * features + f0) * pitch + v
                if n0 + WIDTH <= samples and f0 + WIDTH <= features:
                    transpose(
                        packed.ctypes.data + 4 * at,
                        pitch,
                        x.ctypes.data + n0 * x.strides[0] + 4 * f0,
                        features,
                    )
                    continue
                for feature in range(min(WIDTH, features - f0)):
                    for n in range(WIDTH):
                        value = float32(0)
                        if n0 + n < samples:
                            value = x[n0 + n, f0 + feature]
                        packed[at + feature * pitch + n] = value

    return pack_columns


@inline
def unpack_columns(packed, x, n0, feature0, features, columns):
    """Write part of x, [columns, features] from (n0, feature0), from its transpose.

    Parameters
    ----------
    packed : float32 [features][columns], flat
        `columns` is a multiple of WIDTH.
    x : float32 [N, F]
        Rows behind the last are left out.
    """
    samples = x.shape[0]
    for v in range(0, columns, WIDTH):
        n1 = n0 + v
        if n1 + WIDTH <= samples and features >= WIDTH:
            for i in range(0, features, WIDTH):
                f = min(i, features - WIDTH)  # the last block may write again what the one before wrote
                transpose(
                    x.ctypes.data + n1 * x.strides[0] + 4 * (feature0 + f), x.shape[1],
                    packed.ctypes.data + 4 * (f * columns + v), columns,
                )  # fmt: skip
            continue
        for n in range(n1, min(n1 + WIDTH, samples)):
            for f in range(features):
                x[n, feature0 + f] = packed[f * columns + n - n0]


def pack_slices(threads: Threads, x, packed, width: int, pitch: int) -> None:
    """Lay out x, [N, F], as [F/width][N][pitch]; absent columns of x as zeros.

    `pitch` is `width` rounded up to registers; what lies between them means nothing.
    """
    assert packed.size >= slices_floats(x.shape[1], len(x), width, pitch)
    threads.run(_pack_slices(), ceil_div(len(x), SLAB), x.size, x, packed, width, pitch)


@lru_cache
def _pack_slices():
    @kernel(int64, int64, int64, MATRIX, PACKED, int64, int64)
    def pack_slices(worker, first, last, x, packed, width, pitch):
        samples, features = x.shape
        for slab in range(first, last):
            for i in range(ceil_div(features, width)):
                f0 = i * width
                for n in range(slab * SLAB, min(samples, (slab + 1) * SLAB)):
                    at = (i * samples + n) * pitch
                    if f0 + pitch <= features:
                        source = x.ctypes.data + n * x.strides[0] + 4 * f0
                        copy_registers(packed.ctypes.data + 4 * at, source, ceil_div(pitch, WIDTH))
                        continue
                    for lane in range(pitch):
                        packed[at + lane] = x[n, f0 + lane] if f0 + lane < features else float32(0)

    return pack_slices
