"""Vector intrinsics of the matrix kernels: tiles that fetch ahead, tiles that add leaves, transposes.

They follow `simd.tiles` where they can: each element of C is one chain of fused multiply-adds.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from layers.kernels.simd import LANES, VECTOR, constant, multiply_add, prefetch, splat, vector_constant

_FLOAT = ir.FloatType()
_POINTER = _FLOAT.as_pointer()
_I32 = ir.IntType(32)
_LINE = 16  # floats in a cache line


def _at(builder: ir.IRBuilder, pointer: ir.Value, index: ir.Value, step: ir.Value | int) -> ir.Value:
    step = constant(step) if isinstance(step, int) else step
    return builder.gep(pointer, [builder.mul(index, step)])


def _vector(builder: ir.IRBuilder, pointer: ir.Value, offset: ir.Value | int) -> ir.Value:
    offset = constant(offset) if isinstance(offset, int) else offset
    return builder.bitcast(builder.gep(pointer, [offset]), VECTOR.as_pointer())


def _load(builder: ir.IRBuilder, pointer: ir.Value, offset: ir.Value | int) -> ir.Value:
    return builder.load(_vector(builder, pointer, offset), align=4)


def _store(builder: ir.IRBuilder, value: ir.Value, pointer: ir.Value, offset: ir.Value | int) -> None:
    builder.store(value, _vector(builder, pointer, offset), align=4)


def _stream(builder: ir.IRBuilder, value: ir.Value, pointer: ir.Value, offset: int) -> None:
    """Store past the caches; the address must be a multiple of the vector's size."""
    store = builder.store(value, _vector(builder, pointer, offset), align=4 * LANES)
    store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_I32, 1)]))


class _Accumulators:
    """rows x vectors stack slots, which LLVM promotes to registers."""

    def __init__(self, builder: ir.IRBuilder, rows: int, vectors: int):
        self.builder, self.rows, self.vectors = builder, rows, vectors
        self.slots = {
            (row, v): cgutils.alloca_once(builder, VECTOR) for row in range(rows) for v in range(vectors)
        }

    def clear(self) -> None:
        for slot in self.slots.values():
            self.builder.store(vector_constant(0), slot)

    def multiply_add(self, a: ir.Value, a_row: int, b: ir.Value) -> None:
        """Add the product of `rows` scalars, `a_row` floats apart, and `vectors` vectors."""
        builder = self.builder
        vectors = [_load(builder, b, v * LANES) for v in range(self.vectors)]
        for row in range(self.rows):
            scalar = splat(builder, builder.load(builder.gep(a, [constant(row * a_row)])))
            for v, vector in enumerate(vectors):
                slot = self.slots[row, v]
                builder.store(multiply_add(builder, scalar, vector, builder.load(slot)), slot)

    def prefetch_vectors(self, b: ir.Value, steps: int) -> None:
        """Ask for the vectors that follow `steps` behind those at `b`, where they lie side by side."""
        width = self.vectors * LANES
        for line in range(0, width, _LINE):
            prefetch(self.builder, self.builder.gep(b, [constant(steps * width + line)]), level=1)

    def add(self, other: "_Accumulators") -> None:
        for key, slot in self.slots.items():
            total = self.builder.fadd(self.builder.load(other.slots[key]), self.builder.load(slot))
            self.builder.store(total, slot)

    def add_rows(self, pointer: ir.Value, distance: ir.Value) -> None:
        """Add a tile in memory, its rows `distance` floats apart."""
        for (row, v), slot in self.slots.items():
            partial = _load(self.builder, _at(self.builder, pointer, constant(row), distance), v * LANES)
            self.builder.store(self.builder.fadd(partial, self.builder.load(slot)), slot)


def _literals(*given: types.Type) -> list[int] | None:
    values = [literal.literal_value for literal in given if isinstance(literal, types.IntegerLiteral)]
    return values if len(values) == len(given) else None


_STEPS = types.UniTuple(types.int64, 5)
NEAR = 16  # steps of the inner loop, about 200 cycles: the latency of the second-level cache and more


@intrinsic(prefer_literal=True)
def stream_tiles(
    typing_context, ROWS, TAIL, VECTORS, A_ROW, full, tails,
    a, b, start, start_row, c, c_row, near, ahead, tile, outer, inner, sums,
):  # fmt: skip
    """Compute `full` tiles of ROWS rows, then `tails` of TAIL rows (0 or 1), one below the other in C.

    As `simd.tiles` with two loops, B and C with their vectors side by side, and prefetches::

        C[row, v] = S[row, v] + sum over i, j of A[i*a1 + j*a2 + row*A_ROW] * B[i*b1 + j*b2 + v*LANES]

    Each inner step asks for one line of `near` and the line of B that is needed soon, into the first
    level of the caches, and for one line of `ahead`, which some later tile needs, into the second: so
    the memory works while the tile is computed. Each tile also asks for the C of the next one: rows of C may
    lie a page apart each, where no hardware expects them.

    Parameters
    ----------
    ROWS, TAIL, VECTORS, A_ROW : literal int
    full, tails : int64
        Numbers of tiles.
    a, b, start, c, near, ahead : int64
        Addresses of float32. S and C may be the same.
    start_row, c_row : int64
        Distance of rows in floats; 0 starts all rows with the same vectors (the bias).
    tile : (a step, ahead step)
        From one tile to the next, in floats; near moves with a.
    outer, inner : (length, a step, b step, near step, ahead step)
    sums : (number, address, distance in bytes)
        Finished sums like C, the first at the address and each `distance` before the last, that are added one
        after the other before C is stored.
    """
    literals = _literals(ROWS, TAIL, VECTORS, A_ROW)
    if literals is None:
        return None
    rows, tail, vectors, a_row = literals

    def codegen(_context, builder, _signature, arguments):
        full, tails, a, b, start, start_row, c, c_row, near, ahead = arguments[4:14]
        a, b, start, c, near, ahead = (builder.inttoptr(i, _POINTER) for i in (a, b, start, c, near, ahead))
        a_tile, ahead_tile = (builder.extract_value(arguments[14], part) for part in range(2))
        loops = [[builder.extract_value(loop, part) for part in range(5)] for loop in arguments[15:17]]
        number, sums, distance = (builder.extract_value(arguments[17], part) for part in range(3))

        def one(height, index):
            first = builder.mul(index, constant(rows))
            streams = (
                _at(builder, a, index, a_tile), b,
                _at(builder, near, index, a_tile), _at(builder, ahead, index, ahead_tile),
            )  # fmt: skip
            _stream_tile(
                builder, _Accumulators(builder, height, vectors), a_row, streams, loops,
                (_at(builder, start, first, start_row), start_row), (_at(builder, c, first, c_row), c_row),
                (number, builder.add(sums, builder.mul(builder.mul(first, c_row), constant(4))), distance),
            )  # fmt: skip

        with cgutils.for_range(builder, full) as loop:
            one(rows, loop.index)
        if tail > 0:
            with cgutils.for_range(builder, tails):
                one(tail, full)

    pair, triple = types.UniTuple(types.int64, 2), types.UniTuple(types.int64, 3)
    return types.void(ROWS, TAIL, VECTORS, A_ROW, *[types.int64] * 10, pair, _STEPS, _STEPS, triple), codegen


def _stream_tile(builder, tile, a_row, streams, loops, start, c, sums):
    def advance(pointers, index, steps):
        return [_at(builder, pointer, index, step) for pointer, step in zip(pointers, steps, strict=True)]

    for (row, v), slot in tile.slots.items():
        value = _load(builder, _at(builder, start[0], constant(row), start[1]), v * LANES)
        builder.store(value, slot)
    for row in range(tile.rows, 2 * tile.rows):
        following = _at(builder, c[0], constant(row), c[1])
        for line in range(0, tile.vectors * LANES, _LINE):
            prefetch(builder, builder.gep(following, [constant(line)]), level=2)
    (length1, *steps1), (length2, *steps2) = loops
    with cgutils.for_range(builder, length1) as i:
        outer = advance(streams, i.index, steps1)
        with cgutils.for_range(builder, length2) as j:
            a, b, near, ahead = advance(outer, j.index, steps2)
            prefetch(builder, ahead, level=2)
            prefetch(builder, near, level=1)
            tile.prefetch_vectors(b, NEAR)
            tile.multiply_add(a, a_row, b)
    number, last, distance = sums
    with cgutils.for_range(builder, number) as k:
        source = builder.sub(last, builder.mul(k.index, distance))
        tile.add_rows(builder.inttoptr(source, _POINTER), c[1])
    for row in range(tile.rows):
        to = _at(builder, c[0], constant(row), c[1])
        for v in range(tile.vectors):
            _store(builder, builder.load(tile.slots[row, v]), to, v * LANES)


@intrinsic(prefer_literal=True)
def leaf_tiles(
    typing_context, ROWS, TAIL, VECTORS, SUBTREE, STREAM, full, tails,
    a, a_tile, a_step, b, stack, c, leaves, per_leaf,
):  # fmt: skip
    """Compute tiles of a weight gradient: a chain over the samples of a leaf, leaves as a tree.

    The tree is done before the tile is stored: SUBTREE leaves in registers, above them as a binary
    counter of partial tiles in `stack`, which stays in the first-level cache::

        C[row, v] = tree over leaves of the sum over i < per_leaf of A[i*a_step + row] * B[i, v]

    Parameters
    ----------
    ROWS, TAIL, VECTORS : literal int
    SUBTREE : literal int
        Leaves whose sum is made in registers: a power of two that divides `leaves`.
    STREAM : literal int
        1: C is stored past the caches, and must be aligned to vectors.
    full, tails : int64
        Numbers of tiles; they lie one behind the other in C, rows of VECTORS vectors.
    a, b, stack, c : int64
        Addresses of float32; `stack` has room for stack_depth(leaves) tiles.
    a_tile, a_step : int64
        Distances in A in floats, of tiles and samples.
    leaves, per_leaf : int64
        `leaves` is a power of two.
    """
    literals = _literals(ROWS, TAIL, VECTORS, SUBTREE, STREAM)
    if literals is None:
        return None
    rows, tail, vectors, subtree, stream = literals

    def codegen(_context, builder, _signature, arguments):
        full, tails, a, a_tile, a_step, b, stack, c, leaves, per_leaf = arguments[5:]
        a, b, stack, c = (builder.inttoptr(each, _POINTER) for each in (a, b, stack, c))
        width = vectors * LANES
        near = subtree == 1  # short leaves: their samples are in the first-level cache anyway

        def one(height, index):
            a_at, c_at = _at(builder, a, index, a_tile), _at(builder, c, index, rows * width)
            a_leaf, b_leaf = builder.mul(per_leaf, a_step), builder.mul(per_leaf, constant(width))

            def chain(leaf):
                tile = _Accumulators(builder, height, vectors)
                tile.clear()
                a_from, b_from = _at(builder, a_at, leaf, a_leaf), _at(builder, b, leaf, b_leaf)
                with cgutils.for_range(builder, per_leaf) as i:
                    a_i, b_i = _at(builder, a_from, i.index, a_step), _at(builder, b_from, i.index, width)
                    if near:
                        prefetch(builder, builder.gep(a_i, [builder.mul(a_step, constant(NEAR))]), level=1)
                        tile.prefetch_vectors(b_i, NEAR)
                    tile.multiply_add(a_i, 1, b_i)
                return tile

            def tree(first, size):
                """Emit the sum of `size` leaves in registers."""
                if size == 1:
                    return chain(first)
                left = tree(first, size // 2)
                right = tree(builder.add(first, constant(size // 2)), size // 2)
                right.add(left)
                return right

            with cgutils.for_range(builder, builder.udiv(leaves, constant(subtree))) as loop:
                tile = tree(builder.mul(loop.index, constant(subtree)), subtree)
                done = builder.add(loop.index, constant(1))
                merges = builder.cttz(done, ir.Constant(ir.IntType(1), 1))
                top = builder.ctpop(loop.index)  # partial tiles below: one for each bit
                slot_floats = height * width
                with cgutils.for_range(builder, merges) as merge:
                    below = builder.sub(builder.sub(top, constant(1)), merge.index)
                    tile.add_rows(_at(builder, stack, below, slot_floats), constant(width))
                finished = builder.icmp_unsigned("==", builder.mul(done, constant(subtree)), leaves)
                with builder.if_else(finished) as (last, other):
                    with last:
                        for (row, v), slot in tile.slots.items():
                            put = _stream if stream else _store
                            put(builder, builder.load(slot), c_at, row * width + v * LANES)
                    with other:
                        target = _at(builder, stack, builder.sub(top, merges), slot_floats)
                        for (row, v), slot in tile.slots.items():
                            _store(builder, builder.load(slot), target, row * width + v * LANES)

        with cgutils.for_range(builder, full) as loop:
            one(rows, loop.index)
        if tail > 0:
            with cgutils.for_range(builder, tails):
                one(tail, full)

    return types.void(ROWS, TAIL, VECTORS, SUBTREE, STREAM, *[types.int64] * 10), codegen


@intrinsic
def finish_streaming(typing_context):
    """Order streamed stores before whatever tells another thread that they are done."""

    def codegen(_context, builder, _signature, _arguments):
        builder.fence("seq_cst")

    return types.void(), codegen


@intrinsic
def transpose(typing_context, target, target_row, source, source_row):
    """Write the transpose of LANES x LANES floats; addresses, and distances of rows in floats."""

    def codegen(_context, builder, _signature, arguments):
        to, to_row, of, of_row = arguments
        to, of = builder.inttoptr(to, _POINTER), builder.inttoptr(of, _POINTER)
        rows = [_load(builder, of, builder.mul(of_row, constant(row))) for row in range(LANES)]
        mask = ir.VectorType(_I32, LANES)
        half = LANES // 2
        while half:  # swap the off-diagonal blocks of half x half in each block of twice that size
            low = [lane if not lane & half else LANES + lane - half for lane in range(LANES)]
            high = [lane + half if not lane & half else LANES + lane for lane in range(LANES)]
            for row in range(LANES):
                if not row & half:
                    upper, lower = rows[row], rows[row + half]
                    rows[row] = builder.shuffle_vector(upper, lower, ir.Constant(mask, low))
                    rows[row + half] = builder.shuffle_vector(upper, lower, ir.Constant(mask, high))
            half //= 2
        for row, vector in enumerate(rows):
            _store(builder, vector, to, builder.mul(to_row, constant(row)))

    return types.void(*[types.int64] * 4), codegen
