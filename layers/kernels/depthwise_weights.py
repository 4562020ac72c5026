"""The weight and bias gradients of a depthwise convolution.

The sums of all taps of some kernel rows stay in registers while a task walks over the pixels of its run of a
leaf: x and dy are read once. The sums of the runs are then added as a tree.
"""

from dataclasses import dataclass
from functools import lru_cache

from numba import float32, int64, types
from numba.extending import intrinsic

from layers.kernels.compile_time import CompileTime, CompileTimeType
from layers.kernels.depthwise import WEIGHT, Rows
from layers.kernels.jit import inline, kernel
from layers.kernels.register_tile import Accumulators, integers
from layers.kernels.rows import IMAGE, row_address
from layers.kernels.runs import rows_of_run, runs_of_leaf
from layers.kernels.simd import (
    LANES,
    REGISTERS_EACH,
    add_vectors,
    constant,
    copy_vectors,
    counted,
    load,
    multiply_add,
    pointer_to,
    store,
)
from layers.kernels.target import TARGET
from layers.kernels.threads import Threads

SUMS = float32[:, :, :, ::1]
REGISTERS = TARGET.registers // REGISTERS_EACH
"""That hold a vector each."""
AT_ONCE = 4  # pixels of dy whose taps meet some pixels of x in common


def sums_shape(c_blocks: int, kernel: tuple[int, int], runs: int) -> tuple[int, ...]:
    """Return the shape of the sums of all runs: a vector for each tap, and one for the bias."""
    return runs, c_blocks, kernel[0] * kernel[1] + 1, LANES


def backward_weights(
    threads: Threads,
    x,
    dy,
    sums,
    weight,
    bias,
    stride: int,
    dilation: int,
    padding: tuple[int, int],
    leaves: int,
) -> None:
    """Write the gradients: inside a run over (sample, row, column), in that order; runs and leaves as a tree.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES]
        With the halo of `depthwise.forward`.
    dy : float32 [N, C/LANES, OH, OW, LANES]
    sums : float32, shape from `sums_shape`
        Working memory.
    weight : float32 [C/LANES, R, S, LANES]
    bias : float32 [C rounded up to LANES]
    padding : (rows, columns)
        Above and on the left.
    """
    blocks, r, s, _ = weight.shape
    cut = runs_of_leaf(len(dy) // leaves, *dy.shape[2:4])
    run, work = _runs(*_rows_together(r, s), s, stride, dilation), 2 * dy.size * r * s
    threads.run(run, leaves * cut * blocks, work, x, dy, sums, r, cut, len(dy) // leaves, *padding)
    threads.run(_tree(), blocks, sums.size, sums, weight, bias)


def _rows_together(r: int, s: int) -> tuple[int, int]:
    """Return the kernel rows whose sums the registers hold at once, and those of the last such group."""
    together = max(1, min(r, (REGISTERS - 2 - AT_ONCE) // s))
    return together, r % together or together


@dataclass(frozen=True)
class TapsTile(CompileTime):
    """Some kernel rows of some taps each; distances in pixels."""

    rows: int
    taps: int
    stride: int
    dilation: int
    sums_dy: int = 0
    """1: the sum of dy, too."""


@lru_cache
def _runs(TOGETHER, LEFT, S, STRIDE, DILATION):
    TILE, LAST, ONE = (TapsTile(rows, S, STRIDE, DILATION) for rows in (TOGETHER, LEFT, 1))
    FIRST = TapsTile(TOGETHER, S, STRIDE, DILATION, 1)

    @kernel(int64, int64, int64, IMAGE, IMAGE, SUMS, int64, int64, int64, int64, int64)
    def depthwise_weight_runs(worker, first, last, x, dy, sums, r, cut, per_leaf, pad_h, pad_w):
        blocks, rows, columns = dy.shape[1], dy.shape[2], dy.shape[3]
        height = x.shape[2]
        down = DILATION * x.strides[2]  # from what one kernel row reads to what the next one reads
        # Rows of dy for which all kernel rows lie inside the image:
        low = (pad_h + STRIDE - 1) // STRIDE
        high = (height - 1 + pad_h - (r - 1) * DILATION) // STRIDE + 1
        for task in range(first, last):  # a run of one block of channels
            run, block = divmod(task, blocks)
            sums[run, block] = 0
            at = sums[run, block].ctypes.data
            of_bias = at + 4 * r * S * LANES
            row, end = rows_of_run(run, cut, per_leaf, rows)
            while row < end:
                n, i = divmod(row, rows)
                stop = min(rows, i + end - row)
                if i < low or i >= high:  # near an edge: one row, those kernel rows that lie inside
                    stop = i + 1
                    for u in range(r):
                        h = i * STRIDE + u * DILATION - pad_h
                        if 0 <= h < height:
                            source = row_address(x, n, block, h) - 4 * pad_w * LANES
                            lines = Rows(row_address(dy, n, block, i), dy.strides[2])
                            to = at + 4 * u * S * LANES
                            _taps_tile(ONE, source, down, 0, lines, 1, columns, to, of_bias)
                    _sum_row(row_address(dy, n, block, i), columns, of_bias)
                else:
                    stop = min(stop, high)
                    for u in range(0, r, TOGETHER):
                        h = i * STRIDE + u * DILATION - pad_h
                        source = row_address(x, n, block, h) - 4 * pad_w * LANES
                        lines = Rows(row_address(dy, n, block, i), dy.strides[2])
                        to = at + 4 * u * S * LANES
                        step = STRIDE * x.strides[2]
                        if u == 0:
                            _taps_tile(FIRST, source, down, step, lines, stop - i, columns, to, of_bias)
                        elif u + TOGETHER > r:
                            _taps_tile(LAST, source, down, step, lines, stop - i, columns, to, of_bias)
                        else:
                            _taps_tile(TILE, source, down, step, lines, stop - i, columns, to, of_bias)
                row += stop - i

    return depthwise_weight_runs


@intrinsic
def _taps_tile(typing_context, tile, x, x_down, x_line, dy, lines, columns, sums, of_bias):
    """Go on with the sums of x * dy over (line, column), one chain of multiply-adds for each tap.

    Parameters
    ----------
    tile : TapsTile
    x : int64
        Address of what the first tap reads for the first pixel of dy.
    x_down, x_line : int64
        Distances in bytes of what kernel rows, and lines of dy, read.
    dy : Rows
    lines, columns : int64
        Of dy.
    sums, of_bias : int64
        Addresses of the sums of the taps, side by side and row by row, and of that of dy.
    """
    if not isinstance(tile, CompileTimeType):
        return None
    shape = tile.value

    def codegen(context, builder, signature, arguments):
        _, x, x_down, x_line, _, lines, columns, sums_at, of_bias = arguments
        dy, dy_line = integers(context, builder, signature.args[4], arguments[4])
        to = pointer_to(builder, sums_at)
        sums = Accumulators(builder, shape.rows, shape.taps)
        sums.begin(lambda u, v: load(builder, to, constant((u * shape.taps + v) * LANES)))
        of_dy = Accumulators(builder, 1, shape.sums_dy)
        of_dy.begin(lambda _u, _v: load(builder, pointer_to(builder, of_bias), constant(0)))

        def pixels(x_rows, dy_at, count):
            """Emit the products of `count` neighbouring pixels of dy; each tap meets them in order."""
            given = [load(builder, dy_at, constant(j * LANES)) for j in range(count)]
            for slot in of_dy.slots.values():
                for value in given:
                    builder.store(builder.fadd(builder.load(slot), value), slot)
            for u, x_at in enumerate(x_rows):
                seen = {}  # pixels of x, which several taps meet
                for j in range(count):
                    for v in range(shape.taps):
                        pixel = j * shape.stride + v * shape.dilation
                        if pixel not in seen:
                            seen[pixel] = load(builder, x_at, constant(pixel * LANES))
                        slot = sums.slots[u, v]
                        builder.store(multiply_add(builder, seen[pixel], given[j], builder.load(slot)), slot)

        whole = builder.sdiv(columns, constant(AT_ONCE))
        with counted(builder, lines) as line:
            x_rows = [
                pointer_to(
                    builder,
                    builder.add(builder.add(x, builder.mul(line, x_line)), builder.mul(x_down, constant(u))),
                )
                for u in range(shape.rows)
            ]
            dy_at = pointer_to(builder, builder.add(dy, builder.mul(line, dy_line)))

            def moved(pixel):
                ahead = builder.mul(pixel, constant(shape.stride * LANES))
                return (
                    [builder.gep(x_row, [ahead]) for x_row in x_rows],
                    builder.gep(dy_at, [builder.mul(pixel, constant(LANES))]),
                )

            with counted(builder, whole) as group:
                pixels(*moved(builder.mul(group, constant(AT_ONCE))), AT_ONCE)
            done = builder.mul(whole, constant(AT_ONCE))
            with counted(builder, builder.sub(columns, done)) as left:
                pixels(*moved(builder.add(done, left)), 1)
        for (u, v), slot in sums.slots.items():
            store(builder, builder.load(slot), to, constant((u * shape.taps + v) * LANES))
        for slot in of_dy.slots.values():
            store(builder, builder.load(slot), pointer_to(builder, of_bias), constant(0))

    kinds = [tile, types.int64, types.int64, types.int64, dy, *[types.int64] * 4]
    return types.void(*kinds), codegen


@intrinsic
def _sum_row(typing_context, dy, columns, total):
    """Go on with the sum of the vectors of a row, at address `total`."""

    def codegen(_context, builder, _signature, arguments):
        dy, columns, total = arguments
        at, to = pointer_to(builder, dy), pointer_to(builder, total)
        sums = Accumulators(builder, 1, 1)
        sums.begin(lambda _row, _v: load(builder, to, constant(0)))
        (slot,) = sums.slots.values()
        with counted(builder, columns) as column:
            value = load(builder, at, builder.mul(column, constant(LANES)))
            builder.store(builder.fadd(builder.load(slot), value), slot)
        store(builder, builder.load(slot), to, constant(0))

    return types.void(types.int64, types.int64, types.int64), codegen


@inline
def _pairs(sums, block, taps):
    """Add the sums of the runs as a balanced tree; the total is that of run 0."""
    width = 1
    while width < sums.shape[0]:
        for run in range(0, sums.shape[0], 2 * width):
            add_vectors(sums[run, block].ctypes.data, sums[run + width, block].ctypes.data, taps)
        width *= 2


@lru_cache(maxsize=1)
def _tree():
    @kernel(int64, int64, int64, SUMS, WEIGHT, float32[::1])
    def depthwise_weight_tree(worker, first, last, sums, weight, bias):
        taps = sums.shape[2]
        for block in range(first, last):
            _pairs(sums, block, taps)
            total = sums[0, block].ctypes.data
            copy_vectors(weight[block].ctypes.data, total, taps - 1)
            copy_vectors(bias.ctypes.data + 4 * block * LANES, total + 4 * (taps - 1) * LANES, 1)

    return depthwise_weight_tree
