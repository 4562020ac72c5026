"""Register tiles of the matrix kernels: one that fetches ahead, and one that adds leaves.

They follow `register_tile` where they can: each element of C is one chain of fused multiply-adds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from layers.arithmetic import round_up
from layers.kernels.compile_time import CompileTime, CompileTimeType
from layers.kernels.flush_mode import emit_flushing
from layers.kernels.paired_tile import Pairs, add_terms, paired_at_once, paired_stream
from layers.kernels.register_tile import (
    TILE_ROWS,
    Accumulators,
    advanced,
    at_once,
    each_loop,
    each_part,
    integers,
)
from layers.kernels.simd import (
    LANES,
    WIDTH,
    advance,
    constant,
    load,
    pointer_to,
    prefetch,
    store,
    store_past,
    vector_constant,
)

LINE = 16
"""Floats in a cache line."""

NEAR = 16 if WIDTH == LANES else 32
"""Innermost steps to fetch ahead: about 200 cycles, the latency of the second-level cache and more."""

TURN = 4
"""Innermost steps of one turn of the loop: a processor foresees the end of short loops only."""

LINE_STEPS = max(1, LINE // round_up(TILE_ROWS, WIDTH))
"""Innermost steps that read one line of A."""


class Streams(NamedTuple):
    """What a tile reads, in order, and what it fetches for later: addresses, or steps in floats."""

    a: int
    b: int
    near: int
    """Into the first-level cache: what is needed soon."""
    ahead: int
    """Into the second-level cache: what some later tile needs."""


class StreamLoop(NamedTuple):
    """The length of a loop, and its step in each stream."""

    length: int
    a: int
    b: int
    near: int
    ahead: int


class Rows(NamedTuple):
    """An address, and the distance of rows; 0 if all rows are the same vectors (a bias)."""

    address: int
    row: int


class Finished(NamedTuple):
    """`number` sums like C to add to it: one at the address, each other `distance` bytes before the last."""

    number: int
    address: int
    distance: int


@dataclass(frozen=True)
class StreamTile(CompileTime):
    """The shape of a tile that fetches what it will read."""

    rows: int
    vectors: int
    a_row: int
    """Distance of the scalars of one row and the next in A."""
    tail: int = 0
    """Rows of one more tile below the others; 0: there is none."""
    fetch_b: bool = True
    """B is not in the first-level cache already."""
    paired: int = 0
    """Not 0: the sums are those of `paired_tile`, of a nest as `paired_tile.paired_stream` takes it."""


@intrinsic
def stream_tiles(typing_context, tile, full, tails, streams, next_tile, start, c, finished, nest):
    """Compute `full` whole tiles, then `tails` with the rows of the tail (0 or 1), one below the other in C.

    As `register_tile.multiply_tile`, with vectors of B and C side by side, and prefetches::

        C[row, v] = S[row, v] + sum over the loops of A[i1*a1 + ... + row*a_row] * B[i1*b1 + ... + v*LANES]

    The innermost steps ask for the line of `near` and that of B that are needed soon, into the first level of
    the caches, and for a line of `ahead`, into the second: so the memory works while the tile is computed.
    Each tile also asks for the C of the next one: rows of C may lie a page apart, where no hardware expects
    them.

    Parameters
    ----------
    tile : StreamTile
    full, tails : int64
        Numbers of tiles.
    streams : Streams
        Addresses.
    next_tile : Streams
        Steps from one tile to the next.
    start, c : Rows
        S and C; they may be the same.
    finished : Finished
        What is added to C, one after the other, before it is stored.
    nest : tuple of StreamLoop
        Outermost first.
    """
    if not isinstance(tile, CompileTimeType):
        return None
    shape = tile.value

    def codegen(context, builder, signature, arguments):
        full, tails = arguments[1:3]
        streams, tile_steps, start, c, finished = (
            integers(context, builder, signature.args[place], arguments[place]) for place in range(3, 8)
        )
        loops = each_loop(context, builder, signature.args[8], arguments[8])
        streams = [pointer_to(builder, address) for address in streams]
        (start_at, start_row), (c_at, c_row) = ((pointer_to(builder, at), row) for at, row in (start, c))
        number, sums, distance = finished
        kind, width = _kind(shape)

        def one(rows, index, column):
            first = builder.mul(index, constant(shape.rows))
            to = builder.add(builder.mul(first, c_row), column)
            a, b, near, ahead = advanced(builder, streams, index, tile_steps)
            _stream_tile(
                builder, kind(builder, rows, width), shape,
                [a, builder.gep(b, [column]), near, ahead], loops,
                (builder.gep(advance(builder, start_at, first, start_row), [column]), start_row),
                (builder.gep(c_at, [to]), c_row),
                (number, builder.add(sums, builder.mul(to, constant(4))), distance),
            )  # fmt: skip

        _each_tile(builder, shape, width, full, tails, one)

    counts = types.int64, types.int64
    return types.void(tile, *counts, streams, next_tile, start, c, finished, nest), codegen


def _stream_tile(builder, sums, shape, streams, loops, start, c, finished):
    start_at, start_row = start
    c_at, c_row = c

    def begin(row: int, v: int) -> ir.Value:
        return load(builder, advance(builder, start_at, constant(row), start_row), constant(v * LANES))

    sums.begin(begin)
    for row in range(sums.rows, 2 * sums.rows):
        following = advance(builder, c_at, constant(row), c_row)
        for line in range(0, sums.vectors * LANES, LINE):
            prefetch(builder, builder.gep(following, [constant(line)]), level=2)

    def nest(depth: int, at: list[ir.Value]) -> None:
        length, *steps = loops[depth]

        def step(index: ir.Value, place: int) -> None:
            a, b, near, ahead = advanced(builder, at, index, steps)
            if place % LINE_STEPS == 0:
                prefetch(builder, ahead, level=2)
                prefetch(builder, near, level=1)
            if shape.fetch_b:
                prefetch_vectors(builder, b, sums.vectors, shape.vectors * LANES)
            sums.multiply_add(a, shape.a_row, b, constant(LANES))

        if depth == len(loops) - 1:
            _in_turns(builder, length, step)
            return
        with cgutils.for_range(builder, length) as loop:
            nest(depth + 1, advanced(builder, at, loop.index, steps))

    if shape.paired:
        _add_paired(builder, sums, shape, loops, streams)
    else:
        nest(0, streams)
    number, last, distance = finished
    with cgutils.for_range(builder, number) as k:
        source = builder.sub(last, builder.mul(k.index, distance))
        _add_rows(builder, sums, pointer_to(builder, source), c_row)
    for (row, v), slot in sums.slots.items():
        store(builder, builder.load(slot), advance(builder, c_at, constant(row), c_row), constant(v * LANES))


def _kind(shape: "StreamTile | LeafTile") -> tuple[type[Accumulators] | type[Pairs], int]:
    """Return what holds the sums of a tile, and how many vectors are computed at once."""
    if shape.paired:
        return Pairs, paired_at_once(shape.rows, shape.vectors)
    return Accumulators, at_once(shape.rows, shape.vectors)


def _add_paired(builder, sums, shape, loops, streams):
    """Emit the nest of a paired tile, and the end of its sums."""

    def term(chain: Accumulators, a: ir.Value, b: ir.Value, near: ir.Value, ahead: ir.Value) -> None:
        prefetch(builder, ahead, level=2)
        prefetch(builder, near, level=1)
        if shape.fetch_b:
            prefetch_vectors(builder, b, sums.vectors, shape.vectors * LANES)
        chain.multiply_add(a, shape.a_row, b, constant(LANES))

    paired_stream(sums, shape.paired, loops, streams, term)
    sums.end()


def _each_tile(
    builder: ir.IRBuilder,
    shape: "StreamTile | LeafTile",
    width: int,
    full: ir.Value,
    tails: ir.Value,
    one: Callable[[int, ir.Value, ir.Value], None],
) -> None:
    """Emit ``one(rows, index of the tile, first column)`` for all tiles of each part of `width` vectors.

    So the B of a part stays in cache while all rows pass.
    """
    with each_part(builder, shape.vectors // width) as part:
        column = builder.mul(part, constant(width * LANES))
        with cgutils.for_range(builder, full) as loop:
            one(shape.rows, loop.index, column)
        if shape.tail > 0:
            with cgutils.for_range(builder, tails):
                one(shape.tail, full, column)


def _in_turns(builder: ir.IRBuilder, length: ir.Value, step: Callable[[ir.Value, int], None]) -> None:
    """Emit ``step(index, place in its turn)`` for each index below `length`, in order."""
    turns = builder.sdiv(length, constant(TURN))
    done = builder.mul(turns, constant(TURN))
    with cgutils.for_range(builder, turns) as loop:
        first = builder.mul(loop.index, constant(TURN))
        for place in range(TURN):
            step(builder.add(first, constant(place)), place)
    with cgutils.for_range(builder, builder.sub(length, done)) as loop:
        step(builder.add(done, loop.index), 0)


def prefetch_vectors(builder: ir.IRBuilder, b: ir.Value, vectors: int, step: int) -> None:
    """Ask for the vectors that follow NEAR steps behind those at `b`, where they lie side by side."""
    for line in range(0, vectors * LANES, LINE):
        prefetch(builder, builder.gep(b, [constant(NEAR * step + line)]), level=1)


def _add_rows(
    builder: ir.IRBuilder, sums: Accumulators | Pairs, pointer: ir.Value, row_step: ir.Value
) -> None:
    """Add a tile in memory to the sums."""
    for (row, v), slot in sums.slots.items():
        partial = load(builder, advance(builder, pointer, constant(row), row_step), constant(v * LANES))
        builder.store(builder.fadd(partial, builder.load(slot)), slot)


@dataclass(frozen=True)
class LeafTile(CompileTime):
    """The shape of a tile of a weight gradient."""

    rows: int
    vectors: int
    subtree: int
    """Leaves whose sums are added in registers: a power of two that divides all leaves."""
    tail: int = 0
    """Rows of one more tile; 0: there is none."""
    stream: bool = False
    """C is stored past the caches, and must be aligned to vectors."""
    paired: bool = False
    """The sums are those of `paired_tile`; the subtree is one leaf."""


class Samples(NamedTuple):
    """Where A begins, and the distances of tiles and samples in it."""

    address: int
    tile: int
    sample: int


@intrinsic
def leaf_tiles(typing_context, tile, full, tails, a, b, stack, c, leaves, per_leaf):
    """Compute tiles of a weight gradient: a chain over the samples of a leaf, leaves as a tree.

    The tree is done before the tile is stored: a subtree of the leaves in registers, above it a binary
    counter of partial tiles in `stack`, which stays in the first-level cache::

        C[row, v] = tree over leaves of the sum over i < per_leaf of A[i*sample + row] * B[i, v]

    Parameters
    ----------
    tile : LeafTile
    full, tails : int64
        Numbers of whole tiles and of tails (0 or 1); they lie one behind the other in C, rows of vectors.
    a : Samples
    b, stack, c : int64
        Addresses; `stack` has room for stack_depth(leaves) tiles.
    leaves, per_leaf : int64
        `leaves` is a power of two.
    """
    if not isinstance(tile, CompileTimeType):
        return None
    shape = tile.value

    def codegen(context, builder, signature, arguments):
        full, tails = arguments[1:3]
        a, a_tile, a_step = integers(context, builder, signature.args[3], arguments[3])
        a, b, stack, c = (pointer_to(builder, address) for address in (a, *arguments[4:7]))
        leaves, per_leaf = arguments[7:]
        width, subtree = shape.vectors * LANES, shape.subtree
        row_step = constant(width)
        near = subtree == 1  # short leaves: their samples are in the first-level cache anyway
        kind, vectors = _kind(shape)

        def one(rows, index, column):
            a_at = advance(builder, a, index, a_tile)
            b_at, stack_at = builder.gep(b, [column]), builder.gep(stack, [column])
            c_at = builder.gep(advance(builder, c, index, constant(shape.rows * width)), [column])
            a_leaf, b_leaf = builder.mul(per_leaf, a_step), builder.mul(per_leaf, row_step)

            def chain(leaf):
                sums = kind(builder, rows, vectors)
                sums.begin(lambda _row, _v: vector_constant(0))
                a_from, b_from = advance(builder, a_at, leaf, a_leaf), advance(builder, b_at, leaf, b_leaf)

                def step(index, place):
                    a_i = advance(builder, a_from, index, a_step)
                    b_i = advance(builder, b_from, index, row_step)
                    if near:
                        if place % LINE_STEPS == 0:
                            soon = builder.gep(a_i, [builder.mul(a_step, constant(NEAR))])
                            prefetch(builder, soon, level=1)
                        prefetch_vectors(builder, b_i, vectors, width)
                    sums.multiply_add(a_i, 1, b_i, constant(LANES))

                def term(chain, a_i, b_i):
                    prefetch_vectors(builder, b_i, vectors, width)
                    chain.multiply_add(a_i, 1, b_i, constant(LANES))

                if shape.paired:
                    add_terms(sums, per_leaf, [a_step, row_step], [a_from, b_from], term)
                    sums.end()
                else:
                    _in_turns(builder, per_leaf, step)
                return sums

            def tree(first, size):
                """Emit the sum of `size` leaves in registers."""
                if size == 1:
                    return chain(first)
                left = tree(first, size // 2)
                right = tree(builder.add(first, constant(size // 2)), size // 2)
                for place, slot in right.slots.items():
                    total = builder.fadd(builder.load(left.slots[place]), builder.load(slot))
                    builder.store(total, slot)
                return right

            def put(sums, target, instruction):
                for (row, v), slot in sums.slots.items():
                    instruction(builder, builder.load(slot), target, constant(row * width + v * LANES))

            with cgutils.for_range(builder, builder.udiv(leaves, constant(subtree))) as loop:
                sums = tree(builder.mul(loop.index, constant(subtree)), subtree)
                done = builder.add(loop.index, constant(1))
                merges = builder.cttz(done, ir.Constant(ir.IntType(1), 1))
                top = builder.ctpop(loop.index)  # partial tiles below: one for each bit
                slot_floats = constant(rows * width)
                finished = builder.icmp_unsigned("==", builder.mul(done, constant(subtree)), leaves)

                def merge_and_put():
                    with cgutils.for_range(builder, merges) as merge:
                        below = builder.sub(builder.sub(top, constant(1)), merge.index)
                        _add_rows(builder, sums, advance(builder, stack_at, below, slot_floats), row_step)
                    with builder.if_else(finished) as (last, other):
                        with last:
                            put(sums, c_at, store_past if shape.stream else store)
                        with other:
                            slot = builder.sub(top, merges)
                            put(sums, advance(builder, stack_at, slot, slot_floats), store)

                if not shape.paired:
                    merge_and_put()
                else:  # as `leaves.tree_add_unflushed`: what is added lies in memory before the mode changes
                    own = advance(builder, stack_at, top, slot_floats)
                    put(sums, own, store)
                    merging = builder.icmp_signed(">", merges, constant(0))
                    with builder.if_then(builder.or_(merging, finished)):
                        emit_flushing(builder, on=False)
                        for (row, v), slot in sums.slots.items():
                            builder.store(load(builder, own, constant(row * width + v * LANES)), slot)
                        merge_and_put()
                        emit_flushing(builder, on=True)

        _each_tile(builder, shape, vectors, full, tails, one)

    return types.void(tile, *[types.int64] * 2, a, *[types.int64] * 5), codegen
