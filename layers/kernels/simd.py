"""Vector intrinsics: the host's SIMD width, and the register tile that every heavy kernel stands on."""

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_FEATURES = llvm.get_host_cpu_features()
_ARM = llvm.get_process_triple().startswith(("aarch64", "arm64"))


def _lanes() -> int:
    if _FEATURES.get("avx512f"):
        return 16
    return 8 if _FEATURES.get("avx2") and _FEATURES.get("fma") else 4


LANES = _lanes()
"""float32 values in one SIMD register: 16 (AVX-512), 8 (AVX2) or 4 (Arm, old x86)."""

REGISTERS = 32 if LANES == 16 or _ARM else 16
"""Vector registers of the host."""

TILE_ROWS = 14 if REGISTERS == 32 else 6
"""Rows of a tile of two vectors: 28 (12) accumulators, two vectors and a broadcast fit the registers."""

ONCE = (1, 0, 0)
"""A loop of `tiles` that is not needed."""

ZERO, LOAD, BIAS, ADD, BIAS_RELU = range(5)
"""How a tile starts: at zero, from C (a sum is continued) or the bias.

ADD: at zero, and added to C. BIAS_RELU: from the bias, and rectified when stored.
"""

_FLOAT = ir.FloatType()
VECTOR = ir.VectorType(_FLOAT, LANES)
"""The type of a register of LANES floats."""

_I32, _I64 = ir.IntType(32), ir.IntType(64)
FUSED = LANES > 4 or _ARM
"""Whether the host has fused multiply-adds; calling libm for them on old x86 would be slow."""


def constant(value: int) -> ir.Constant:
    """Return a constant of type int64."""
    return ir.Constant(_I64, value)


def splat(builder: ir.IRBuilder, scalar: ir.Value) -> ir.Value:
    """Emit a vector of LANES lanes with one value in all of them."""
    undefined = ir.Constant(ir.VectorType(scalar.type, LANES), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


def _vector_at(builder: ir.IRBuilder, pointer: ir.Value, offset: ir.Value) -> ir.Value:
    return builder.bitcast(builder.gep(pointer, [offset]), VECTOR.as_pointer())


def _load(builder: ir.IRBuilder, pointer: ir.Value, offset: ir.Value) -> ir.Value:
    return builder.load(_vector_at(builder, pointer, offset), align=4)


def multiply_add(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """Emit a * b + c of vectors, fused where the host can."""
    if not FUSED:
        return builder.fadd(builder.fmul(a, b), c)
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
    return builder.call(fma, [a, b, c])


def rectify(builder: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    """Emit max(vector, +0); a NaN stays."""
    zero = vector_constant(0)
    return builder.select(builder.fcmp_ordered("<=", vector, zero), zero, vector)


def load_vector(builder: ir.IRBuilder, address: ir.Value, offset: ir.Value) -> ir.Value:
    """Emit the load of a vector `offset` floats behind an int64 address."""
    return _load(builder, builder.inttoptr(address, _FLOAT.as_pointer()), offset)


def store_vector(builder: ir.IRBuilder, vector: ir.Value, address: ir.Value, offset: ir.Value) -> None:
    """Emit the store of a vector `offset` floats behind an int64 address."""
    pointer = builder.inttoptr(address, _FLOAT.as_pointer())
    builder.store(vector, _vector_at(builder, pointer, offset), align=4)


def vector_constant(value: float) -> ir.Constant:
    """Return a vector with one value in all lanes."""
    return ir.Constant(VECTOR, [float(value)] * LANES)


def prefetch(builder: ir.IRBuilder, pointer: ir.Value, *, level: int) -> None:
    """Emit the request for a line of memory, into the first or second level of the caches. Never faults."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    read, locality, data = 0, 4 - level, 1
    builder.call(
        function, [builder.bitcast(pointer, byte), *(ir.Constant(_I32, i) for i in (read, locality, data))]
    )


@intrinsic(prefer_literal=True)
def prefetch_pixels(typing_context, corner, row_bytes, SIDE):
    """Ask for SIDE x SIDE pixels of LANES channels, into the second-level cache.

    Parameters
    ----------
    corner, row_bytes : int64
        Address of the first; distance of rows.
    SIDE : literal int
    """
    if not isinstance(SIDE, types.IntegerLiteral):
        return None
    side = SIDE.literal_value

    def codegen(_context, builder, _signature, arguments):
        corner, row_bytes, _ = arguments
        for i in range(side):
            row = builder.add(corner, builder.mul(row_bytes, constant(i)))
            for j in range(side):
                pixel = builder.add(row, constant(4 * LANES * j))
                prefetch(builder, builder.inttoptr(pixel, _FLOAT.as_pointer()), level=2)

    return types.void(types.int64, types.int64, SIDE), codegen


@intrinsic(prefer_literal=True)
def tiles(
    typing_context, ROWS, TAIL, VECTORS, A_ROW, START, full, tails,
    a, a_tile, b, b_vector, c, c_row, c_vector, bias, loop1, loop2, loop3, loop4,
):  # fmt: skip
    """Compute `full` tiles of ROWS rows, then `tails` of TAIL rows (0 or 1), one below the other in C.

    A tile is ROWS rows of VECTORS vectors, kept in registers over the whole sum. Each loop is
    ``(length, step in A, step in B)``; for ``i1, i2, i3, i4`` in that order, innermost last::

        C[row, v] += A[i1*a1 + i2*a2 + i3*a3 + i4*a4 + row*A_ROW] * B[i1*b1 + ... + i4*b4 + v*b_vector]

    Each element of C is one chain of fused multiply-adds in that order, so its bits depend neither on
    the size of the tile nor on where a longer sum is cut (START = LOAD continues it).

    Parameters
    ----------
    ROWS, TAIL, VECTORS, A_ROW, START : literal int
        Shape of the tiles, distance of rows in A, and ZERO, LOAD, BIAS, ADD or BIAS_RELU.
    full, tails : int64
        Numbers of tiles; without a TAIL (0) the second counts nothing.
    a, b, c, bias : int64
        Addresses of float32. `bias` holds VECTORS vectors and is read where START is BIAS or BIAS_RELU.
    a_tile, b_vector, c_row, c_vector : int64
        Distances in floats: of tiles in A, of vectors in B, of rows and vectors in C. May be negative,
        as may the loops' steps.
    loop1, loop2, loop3, loop4 : (int64, int64, int64)
        A length below 1 leaves the start value.
    """
    literals = (ROWS, TAIL, VECTORS, A_ROW, START)
    if not all(isinstance(literal, types.IntegerLiteral) for literal in literals):
        return None
    rows, tail, vectors, a_row, start = (literal.literal_value for literal in literals)

    def codegen(_context, builder, _signature, arguments):
        full, tails, a, a_step, b, b_vec, c, c_row, c_vec, bias = arguments[5:15]
        a, b, c, bias = (builder.inttoptr(address, _FLOAT.as_pointer()) for address in (a, b, c, bias))
        loops = [[builder.extract_value(loop, part) for part in range(3)] for loop in arguments[15:]]
        step = builder.mul(c_row, constant(rows))

        def one(height, a_at, c_at):
            _tile(builder, height, vectors, a_row, start, a_at, b, b_vec, c_at, c_row, c_vec, bias, loops)

        with cgutils.for_range(builder, full) as loop:
            one(rows, _offset(builder, a, loop.index, a_step), _offset(builder, c, loop.index, step))
        if tail > 0:
            with cgutils.for_range(builder, tails):
                one(tail, _offset(builder, a, full, a_step), _offset(builder, c, full, step))

    loop = types.UniTuple(types.int64, 3)
    return types.void(*literals, *[types.int64] * 10, loop, loop, loop, loop), codegen


def _offset(builder: ir.IRBuilder, pointer: ir.Value, index: ir.Value, step: ir.Value) -> ir.Value:
    return builder.gep(pointer, [builder.mul(index, step)])


def _tile(builder, rows, vectors, a_row, start, a, b, b_vector, c, c_row, c_vector, bias, loops):
    """Emit one tile; its accumulators are stack slots that LLVM promotes to registers."""

    def c_offset(row, v):
        return builder.add(builder.mul(c_row, constant(row)), builder.mul(c_vector, constant(v)))

    def start_value(row, v):
        if start == LOAD:
            return _load(builder, c, c_offset(row, v))
        if start in {BIAS, BIAS_RELU}:
            return _load(builder, bias, constant(v * LANES))
        return vector_constant(0)

    accumulators = {
        (row, v): cgutils.alloca_once(builder, VECTOR) for row in range(rows) for v in range(vectors)
    }
    for (row, v), slot in accumulators.items():
        builder.store(start_value(row, v), slot)

    def innermost(a_at, b_at):
        vector = [_load(builder, b_at, builder.mul(b_vector, constant(v))) for v in range(vectors)]
        for row in range(rows):
            scalar = splat(builder, builder.load(builder.gep(a_at, [constant(row * a_row)])))
            for v in range(vectors):
                slot = accumulators[row, v]
                builder.store(multiply_add(builder, scalar, vector[v], builder.load(slot)), slot)

    def nest(depth, a_at, b_at):
        if depth == len(loops):
            innermost(a_at, b_at)
            return
        length, a_step, b_step = loops[depth]
        with cgutils.for_range(builder, length) as loop:
            nest(
                depth + 1,
                _offset(builder, a_at, loop.index, a_step),
                _offset(builder, b_at, loop.index, b_step),
            )

    nest(0, a, b)
    for (row, v), slot in accumulators.items():
        total = builder.load(slot)
        if start == ADD:
            total = builder.fadd(total, _load(builder, c, c_offset(row, v)))
        if start == BIAS_RELU:
            total = rectify(builder, total)
        builder.store(total, _vector_at(builder, c, c_offset(row, v)), align=4)


@intrinsic
def add_vectors(typing_context, target, source, vectors):
    """Add `vectors` vectors at address `source` to those at address `target`."""

    def codegen(_context, builder, _signature, arguments):
        to, of = (builder.inttoptr(address, _FLOAT.as_pointer()) for address in arguments[:2])
        with cgutils.for_range(builder, arguments[2]) as loop:
            offset = builder.mul(loop.index, constant(LANES))
            total = builder.fadd(_load(builder, to, offset), _load(builder, of, offset))
            builder.store(total, _vector_at(builder, to, offset), align=4)

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def copy_vectors(typing_context, target, source, vectors):
    """Copy `vectors` vectors from address `source` to address `target`."""

    def codegen(_context, builder, _signature, arguments):
        to, of = (builder.inttoptr(address, _FLOAT.as_pointer()) for address in arguments[:2])
        with cgutils.for_range(builder, arguments[2]) as loop:
            offset = builder.mul(loop.index, constant(LANES))
            builder.store(_load(builder, of, offset), _vector_at(builder, to, offset), align=4)

    return types.void(types.int64, types.int64, types.int64), codegen
