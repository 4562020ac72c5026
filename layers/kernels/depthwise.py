"""Depthwise convolution, each channel with a kernel of its own: forward and backward_data.

A vector is LANES channels, so nothing is broadcast and nothing is summed over channels. The row tile walks
along an image row; rows outside the image are skipped, columns outside it are the zero halo that the rows of
x (or dy) have in memory.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from numba import float32, int64, types
from numba.extending import intrinsic

from layers.arithmetic import ceil_div
from layers.kernels.compile_time import CompileTime, CompileTimeType
from layers.kernels.jit import inline, kernel
from layers.kernels.register_tile import NO_BIAS, Accumulators, integers
from layers.kernels.residues import first_positions, step_and_fall
from layers.kernels.rows import IMAGE, row_address
from layers.kernels.simd import (
    LANES,
    REGISTERS_EACH,
    constant,
    counted,
    load,
    multiply_add,
    pointer_to,
    store,
    vector_constant,
)
from layers.kernels.target import TARGET
from layers.kernels.threads import Threads
from layers.kernels.tiling import split_rows

WEIGHT = float32[:, :, :, ::1]
MOST_COLUMNS = {32: 14, 8: 4}.get(TARGET.registers // REGISTERS_EACH, 2)
"""Outputs of a tile, whose sums stay in registers beside the vectors of a kernel row."""


@dataclass(frozen=True)
class RowTile(CompileTime):
    """Some outputs of a row, and the taps of one kernel row that meet them; distances in pixels."""

    columns: int
    taps: int
    source: int
    """From what one output reads to what the next one reads."""
    tap: int
    """From what one tap reads to what the next one reads."""
    weight: int
    """From the weights of one tap to those of the next; negative where taps fall."""
    target: int
    """From one output to the next."""
    begins: int
    """1: sums begin at a bias, else at zero."""


class Rows(NamedTuple):
    """Address of the first of several rows, and their distance in bytes."""

    address: int
    row: int


@intrinsic
def row_tile(typing_context, tile, source, weights, rows, start, target):
    """Write one tile: for each output the sum over (row, tap), in that order, a chain of multiply-adds.

    Parameters
    ----------
    tile : RowTile
    source, weights : Rows
        What the first output reads at the first tap, and that tap's weights.
    rows : int64
        Kernel rows, below 1 if nothing is to be summed.
    start, target : int64
        Addresses of the bias, and of the first output.
    """
    if not isinstance(tile, CompileTimeType):
        return None
    shape = tile.value

    def codegen(context, builder, signature, arguments):
        kinds = signature.args
        (source, source_row), (weights, weight_row) = (
            integers(context, builder, kinds[place], arguments[place]) for place in (1, 2)
        )
        sums = Accumulators(builder, 1, shape.columns)
        zero = vector_constant(0)
        first = load(builder, pointer_to(builder, arguments[4]), constant(0)) if shape.begins else zero
        sums.begin(lambda _row, _column: first)
        with counted(builder, arguments[3] if shape.taps else constant(0)) as row:
            at = pointer_to(builder, builder.add(source, builder.mul(row, source_row)))
            taps_at = pointer_to(builder, builder.add(weights, builder.mul(row, weight_row)))
            taps = [load(builder, taps_at, constant(v * shape.weight * LANES)) for v in range(shape.taps)]
            for pixel, meetings in _meetings(shape).items():
                value = load(builder, at, constant(pixel * LANES))
                for column, v in meetings:
                    slot = sums.slots[0, column]
                    builder.store(multiply_add(builder, value, taps[v], builder.load(slot)), slot)
        to = pointer_to(builder, arguments[5])
        for (_, column), slot in sums.slots.items():
            store(builder, builder.load(slot), to, constant(column * shape.target * LANES))

    kinds = [tile, source, weights, types.int64, types.int64, types.int64]
    return types.void(*kinds), codegen


def _meetings(shape: RowTile) -> dict[int, list[tuple[int, int]]]:
    """Return the outputs and taps that each pixel of the source meets, in the order of the pixels.

    So each output meets its taps in their order.
    """
    found: dict[int, list[tuple[int, int]]] = {}
    for column in range(shape.columns):
        for v in range(shape.taps):
            found.setdefault(column * shape.source + v * shape.tap, []).append((column, v))
    return dict(sorted(found.items()))


@inline
def _row(tile, last, full, source, source_step, weights, rows, start, target, target_step):
    """Write the outputs of a row: `full` tiles, and one of those that are left."""
    for index in range(full):
        at = Rows(source.address + index * source_step, source.row)
        row_tile(tile, at, weights, rows, start, target + index * target_step)
    at = Rows(source.address + full * source_step, source.row)
    row_tile(last, at, weights, rows, start, target + full * target_step)


def forward(
    threads: Threads, x, weight, bias, y, stride: int, dilation: int, padding: tuple[int, int]
) -> None:
    """Write y = bias + the sum over (kernel row, kernel column), in that order.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES]
        With zero columns beside its rows, as many as the kernel reaches beyond them.
    weight : float32 [C/LANES, R, S, LANES]
    bias : float32 [C rounded up to LANES]
    y : float32 [N, C/LANES, OH, OW, LANES]
    padding : (rows, columns)
        Above and on the left.
    """
    _, r, s, _ = weight.shape
    run = _forward(*_cut(y.shape[3]), s, stride, dilation)
    threads.run(run, y.shape[0] * y.shape[1], 2 * y.size * r * s, x, weight, bias, y, *padding)


def _cut(columns: int) -> tuple[int, int]:
    """Return the outputs of a tile and of the last one: there is always one."""
    tile, tail = split_rows(columns, MOST_COLUMNS)
    return tile, tail or tile


@lru_cache
def _forward(COLUMNS, LAST_COLUMNS, S, STRIDE, DILATION):
    TILE, LAST = (RowTile(n, S, STRIDE, DILATION, 1, 1, 1) for n in (COLUMNS, LAST_COLUMNS))

    @kernel(int64, int64, int64, IMAGE, WEIGHT, float32[::1], IMAGE, int64, int64)
    def depthwise_forward(worker, first, last, x, weight, bias, y, pad_h, pad_w):
        blocks, rows, columns = y.shape[1], y.shape[2], y.shape[3]
        height, r = x.shape[2], weight.shape[1]
        full = (columns - LAST_COLUMNS) // COLUMNS
        for task in range(first, last):  # one plane of one block of channels
            n, block = divmod(task, blocks)
            kernels = weight.ctypes.data + block * weight.strides[0]
            for i in range(rows):
                top = i * STRIDE - pad_h
                u0 = max(0, ceil_div(-top, DILATION))  # kernel rows inside the image
                u1 = min(r, ceil_div(height - top, DILATION))
                source = row_address(x, n, block, top + u0 * DILATION) - 4 * pad_w * LANES
                _row(
                    TILE, LAST, full,
                    Rows(source, DILATION * x.strides[2]), 4 * COLUMNS * STRIDE * LANES,
                    Rows(kernels + u0 * weight.strides[1], weight.strides[1]), u1 - u0,
                    bias.ctypes.data + 4 * block * LANES,
                    row_address(y, n, block, i), 4 * COLUMNS * LANES,
                )  # fmt: skip

    return depthwise_forward


def backward_data(
    threads: Threads, dy, weight, dx, stride: int, dilation: int, padding: tuple[int, int]
) -> None:
    """Write dx; the sum runs over (row and column of dy), in that order, so the kernel's positions fall.

    With a stride s, the input columns of each residue modulo s form a convolution of their own.

    Parameters
    ----------
    dy : float32 [N, C/LANES, OH, OW, LANES]
        With zero columns beside its rows, as many as the kernel reaches beyond them.
    dx : float32 [N, C/LANES, H, W, LANES]
    """
    _, r, s, _ = weight.shape
    columns, pad_w = dx.shape[3], padding[1]
    work = 2 * dx.size * r * s // (stride * stride)
    firsts = first_positions(stride, dilation)
    phases = [
        (*_cut(ceil_div(columns - column, stride)), firsts[(column + pad_w) % stride])
        for column in range(min(stride, columns))
    ]
    for column in range(0, len(phases), 2):
        both = phases[column : column + 2]
        run = _backward_data(both[0], both[-1], len(both), s, stride, dilation)
        threads.run(run, dx.shape[0] * dx.shape[1], work, dy, weight, dx, column, *padding)


@lru_cache
def _backward_data(ONE, OTHER, COUNT, S, STRIDE, DILATION):
    """Make the kernel of one or two neighbouring residues, so that a row of dx is written at once."""
    STEP, FALL = step_and_fall(STRIDE, DILATION)
    FIRST = first_positions(STRIDE, DILATION)
    TAPS_1, TAPS_2 = (max(0, ceil_div(S - first_v, STEP)) for *_, first_v in (ONE, OTHER))
    (COLUMNS_1, LAST_COLUMNS_1, FIRST_V_1), (COLUMNS_2, LAST_COLUMNS_2, FIRST_V_2) = ONE, OTHER
    TILE_1, LAST_1 = (RowTile(n, TAPS_1, 1, FALL, -STEP, STRIDE, 0) for n in ONE[:2])
    TILE_2, LAST_2 = (RowTile(n, TAPS_2, 1, FALL, -STEP, STRIDE, 0) for n in OTHER[:2])

    @kernel(int64, int64, int64, IMAGE, WEIGHT, IMAGE, int64, int64, int64)
    def depthwise_backward_data(worker, first, last, dy, weight, dx, column, pad_h, pad_w):
        blocks, height, width = dx.shape[1], dx.shape[2], dx.shape[3]
        rows, r = dy.shape[2], weight.shape[1]
        full_1 = (ceil_div(width - column, STRIDE) - LAST_COLUMNS_1) // COLUMNS_1
        full_2 = (ceil_div(width - column - 1, STRIDE) - LAST_COLUMNS_2) // COLUMNS_2
        # The last kernel column comes first; what it meets of dy, from the left:
        v_1, v_2 = FIRST_V_1 + (TAPS_1 - 1) * STEP, FIRST_V_2 + (TAPS_2 - 1) * STEP
        left_1 = (column + pad_w - FIRST_V_1 * DILATION) // STRIDE - (TAPS_1 - 1) * FALL
        left_2 = (column + 1 + pad_w - FIRST_V_2 * DILATION) // STRIDE - (TAPS_2 - 1) * FALL
        for task in range(first, last):  # one plane of one block of channels
            n, block = divmod(task, blocks)
            kernels = weight.ctypes.data + block * weight.strides[0]
            for h in range(height):
                u0 = FIRST[(h + pad_h) % STRIDE]
                bottom = (h + pad_h - u0 * DILATION) // STRIDE  # the output row that kernel row u0 meets
                t0 = max(0, ceil_div(bottom - rows + 1, FALL))
                t1 = min((r - u0 + STEP - 1) // STEP, bottom // FALL + 1)
                source = row_address(dy, n, block, bottom - (t1 - 1) * FALL)
                tap = kernels + (u0 + (t1 - 1) * STEP) * weight.strides[1]
                target = row_address(dx, n, block, h) + 4 * column * LANES
                down, up = FALL * dy.strides[2], -STEP * weight.strides[1]
                _row(
                    TILE_1, LAST_1, full_1,
                    Rows(source + 4 * left_1 * LANES, down), 4 * COLUMNS_1 * LANES,
                    Rows(tap + 4 * v_1 * LANES, up), t1 - t0, NO_BIAS,
                    target, 4 * COLUMNS_1 * STRIDE * LANES,
                )  # fmt: skip
                if COUNT == 2:
                    _row(
                        TILE_2, LAST_2, full_2,
                        Rows(source + 4 * left_2 * LANES, down), 4 * COLUMNS_2 * LANES,
                        Rows(tap + 4 * v_2 * LANES, up), t1 - t0, NO_BIAS,
                        target + 4 * LANES, 4 * COLUMNS_2 * STRIDE * LANES,
                    )  # fmt: skip

    return depthwise_backward_data
