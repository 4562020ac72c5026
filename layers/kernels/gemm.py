"""Matrix products on the register tile: C = bias + A B, of packed operands."""

from functools import lru_cache

from numba import float32, int64

from layers.arithmetic import ceil_div, round_up
from layers.kernels import packing
from layers.kernels.caches import caches
from layers.kernels.flush_mode import begin_flushing, end_flushing
from layers.kernels.jit import kernel
from layers.kernels.matrix_tiles import NEAR, Finished, Rows, StreamLoop, Streams, StreamTile, stream_tiles
from layers.kernels.paired_tile import BLOCK as BLOCK_TERMS
from layers.kernels.paired_tile import LONG
from layers.kernels.simd import LANES, WIDTH
from layers.kernels.threads import Threads

IS_NARROW = WIDTH < LANES
"""Half a panel of B is read at a time: short ones stay in the L1 cache, while wide ones stream through it."""

DEPTH = 256 if IS_NARROW else 2048  # most terms of a tile before the next one: a change costs as much as ten
BLOCK = min(3 << 16, caches().l2 // 8)  # floats of A, half of the L2 cache, that share a panel of B


def even_blocks(tiles: int, most: int) -> tuple[int, int]:
    """Return (blocks, tiles of each) for blocks of at most `most` tiles, as equal as possible."""
    blocks = ceil_div(tiles, most)
    return blocks, ceil_div(tiles, blocks)


def multiply(threads: Threads, tiles, rows: int, panels, bias, c, *, paired: bool = False) -> None:
    """Write C = bias + A B from packed operands: one chain over k for each element, in order.

    Each panel of B is read once for a block of tiles of A, and the next one fetched meanwhile.

    Parameters
    ----------
    tiles : float32 [M/rows][K][pitch(rows)], flat
        A, from `packing.pack_columns`, or `packing.pack_slices` of its transpose.
    rows : int
        From `split_rows(M, TILE_ROWS)`; of paired tiles, PAIRED_ROWS.
    panels : float32 [N/(V*LANES), K, V*LANES]
    bias : float32 [N]
    c : float32 [M, N]
    paired : bool
        A and B hold bf16 values: the sums are those of `paired_tile`. K is a multiple of LANES.
    """
    groups, depth, width = panels.shape
    _, terms = even_blocks(depth, DEPTH)
    terms = round_up(terms, BLOCK_TERMS) if paired else terms
    blocks, block_tiles = even_blocks(ceil_div(len(c), rows), BLOCK // (terms * packing.pitch(rows)))
    run = _multiply(rows, len(c) % rows, width // LANES, paired)
    work = 2 * len(c) * panels.size
    threads.run(run, blocks * groups, work, tiles, panels, bias, c, block_tiles, terms)


@lru_cache
def _multiply(ROWS, TAIL, VECTORS, PAIRED=False):
    COLUMNS = VECTORS * LANES
    PITCH = packing.pitch(ROWS)
    TILE = StreamTile(ROWS, VECTORS, a_row=1, tail=TAIL, fetch_b=not IS_NARROW, paired=LONG if PAIRED else 0)

    @kernel(
        int64, int64, int64, float32[::1], float32[:, :, ::1], float32[::1], float32[:, ::1], int64, int64
    )
    def multiply_panels(worker, first, last, tiles, panels, bias, c, block_tiles, terms):
        height, width = c.shape
        groups, depth = panels.shape[0], panels.shape[1]
        if PAIRED:
            begin_flushing()
        while first < last:  # a block of tiles of A by some panels of B
            block, group0 = divmod(first, groups)
            group1 = min(groups, group0 + last - first)
            first += group1 - group0
            tile0 = block * block_tiles
            full = min(block_tiles, height // ROWS - tile0)
            tails = int64(full < block_tiles and TAIL > 0)
            step = max(1, COLUMNS // (full + tails))  # all tiles together fetch the next panel
            for start in range(0, depth, terms):
                chunk = min(terms, depth - start)
                a = tiles.ctypes.data + 4 * (tile0 * depth + start) * PITCH
                for group in range(group0, group1):
                    b = panels.ctypes.data + group * panels.strides[0] + start * panels.strides[1]
                    to = c.ctypes.data + 4 * (tile0 * ROWS * width + group * COLUMNS)
                    ahead = b + panels.strides[0]
                    if group + 1 == group1:
                        ahead = panels.ctypes.data + group0 * panels.strides[0]
                        ahead += (start + chunk) * panels.strides[1]
                    begin, begin_row = to, width
                    if start == 0:
                        begin, begin_row = bias.ctypes.data + 4 * group * COLUMNS, 0
                    stream_tiles(
                        TILE, full, tails,
                        Streams(a, b, near=a + 4 * NEAR * PITCH, ahead=ahead),
                        Streams(depth * PITCH, 0, near=depth * PITCH, ahead=chunk * step),
                        Rows(begin, begin_row), Rows(to, width), Finished(0, 0, 0),
                        (StreamLoop(chunk, PITCH, COLUMNS, near=PITCH, ahead=step),),
                    )  # fmt: skip
        if PAIRED:
            end_flushing()

    return multiply_panels
