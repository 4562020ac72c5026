"""What the kernels of first layers share: images without padded channels, and their tile.

In an image of whole blocks a pixel of 1 to 4 channels takes a cache line. In a dense one the scalars of one
kernel row and one pixel of y lie side by side, as [kernel column][channel]. A network's input is stored so
(`Layer.input_lanes`); other images are made dense in working memory.
"""

from functools import lru_cache

from llvmlite import ir
from numba import int64, types
from numba.extending import intrinsic

from layers.kernels.compile_time import CompileTimeType
from layers.kernels.jit import kernel
from layers.kernels.register_tile import Accumulators, each_loop, each_step, integers
from layers.kernels.rows import IMAGE, floats, row_address
from layers.kernels.simd import LANES, constant, pointer_to, prefetch, store, store_past
from layers.kernels.threads import Threads

MOST_CHANNELS = 4

IN_CACHE, FETCHED, STREAMED = range(3)
"""How a tile is stored: its lines are in a cache; are asked for when it begins; or it goes past the caches.

Past the caches half as much passes through memory, but a burst of such stores holds up what follows.
"""


def make_dense(threads: Threads, x, dense, left: int) -> None:
    """Write x, float32 [N, 1, H, W, LANES], without padded channels, and with the zeros beside its rows.

    Parameters
    ----------
    dense : float32 [N, 1, H, columns, C]
        Column 0 is column -`left` of x.
    left : int
        x has that many zero columns, and as many on its right as `dense` has.
    """
    samples, _, rows, _, channels = dense.shape
    threads.run(_make_dense(channels), samples * rows, dense.size, x, dense, left)


@lru_cache
def _make_dense(CHANNELS):
    @kernel(int64, int64, int64, IMAGE, IMAGE, int64)
    def first_make_dense(worker, first, last, x, dense, left):
        rows, columns = dense.shape[2], dense.shape[3]
        for task in range(first, last):
            n, i = divmod(task, rows)
            of, to = floats(row_address(x, n, 0, i) - 4 * left * LANES), floats(row_address(dense, n, 0, i))
            for j in range(columns):
                for lane in range(CHANNELS):
                    to[j * CHANNELS + lane] = of[j * LANES + lane]

    return first_make_dense


@intrinsic
def row_tile(typing_context, tile, way, a, b, c, bias, nest):
    """Compute one tile as `register_tile.multiply_tile` does.

    Parameters
    ----------
    tile : Tile
    way : int64
        How it is stored: IN_CACHE, FETCHED or STREAMED. Then C must be aligned to vectors.
    a : int64
        Address of the scalars.
    b : int64
        Address of the vectors, which lie side by side.
    c : Sums
    bias : int64
    nest : tuple of Loop
        Outermost first.
    """
    if not isinstance(tile, CompileTimeType):
        return None
    shape = tile.value

    def codegen(context, builder, signature, arguments):
        way, a, b = arguments[1:4]
        c_at, c_row, c_vector = integers(context, builder, signature.args[4], arguments[4])
        bias = pointer_to(builder, arguments[5])
        loops = each_loop(context, builder, signature.args[6], arguments[6])
        sums = Accumulators(builder, shape.rows, shape.vectors)

        def step(a: ir.Value, b: ir.Value) -> None:
            sums.multiply_add(a, shape.a_row, b, constant(LANES))

        target = pointer_to(builder, c_at)

        def offset(row: int, v: int) -> ir.Value:
            return builder.add(builder.mul(c_row, constant(row)), builder.mul(c_vector, constant(v)))

        with builder.if_then(builder.icmp_signed("==", way, constant(FETCHED))):
            for row, v in sums.slots:
                prefetch(builder, builder.gep(target, [offset(row, v)]), level=1, to_write=True)
        sums.begin_at(shape.start, bias)
        each_step(builder, loops, [pointer_to(builder, a), pointer_to(builder, b)], step)
        totals = list(sums.totals(shape.start))
        with builder.if_else(builder.icmp_signed("==", way, constant(STREAMED))) as (past, into):
            for branch, put in ((past, store_past), (into, store)):
                with branch:
                    for row, v, total in totals:
                        put(builder, total, target, offset(row, v))

    return types.void(tile, types.int64, types.int64, types.int64, c, types.int64, nest), codegen
