"""Vectors of LANES floats, emitters of vector instructions, and intrinsics on runs of vectors.

A vector is as long on every machine: where registers are narrower, the compiler makes it of two or four. So
blocks of channels, and the order in which anything is added, are the same everywhere.

An emitter appends LLVM instructions to a builder; an intrinsic is called from a kernel. Addresses are int64;
offsets, steps and distances are in floats.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from layers.kernels.target import TARGET

LANES = 16
"""float32 values of a vector: the channels of a block."""

WIDTH = TARGET.width
"""float32 values of a register."""

REGISTERS_EACH = LANES // WIDTH
"""Registers that hold one vector."""

_FLOAT = ir.FloatType()
VECTOR = ir.VectorType(_FLOAT, LANES)
"""The type of a vector."""

REGISTER = ir.VectorType(_FLOAT, WIDTH)
"""The type of what one register holds."""

_I32, _I64 = ir.IntType(32), ir.IntType(64)


def constant(value: int) -> ir.Constant:
    """Return a constant of type int64."""
    return ir.Constant(_I64, value)


def splat(builder: ir.IRBuilder, scalar: ir.Value) -> ir.Value:
    """Emit a vector of LANES lanes with one value in all of them."""
    undefined = ir.Constant(ir.VectorType(scalar.type, LANES), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


def pointer_to(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    """Emit the pointer to float32 at an address."""
    return builder.inttoptr(address, _FLOAT.as_pointer())


def advance(builder: ir.IRBuilder, pointer: ir.Value, index: ir.Value, step: ir.Value) -> ir.Value:
    """Emit the pointer `index` steps further on."""
    return builder.gep(pointer, [builder.mul(index, step)])


def vector_at(builder: ir.IRBuilder, pointer: ir.Value, offset: ir.Value) -> ir.Value:
    """Emit the pointer to the vector at an offset."""
    return builder.bitcast(builder.gep(pointer, [offset]), VECTOR.as_pointer())


def load(builder: ir.IRBuilder, pointer: ir.Value, offset: ir.Value) -> ir.Value:
    """Emit the load of the vector at an offset from a pointer."""
    return builder.load(vector_at(builder, pointer, offset), align=4)


def store(builder: ir.IRBuilder, vector: ir.Value, pointer: ir.Value, offset: ir.Value) -> None:
    """Emit the store of a vector at an offset from a pointer."""
    builder.store(vector, vector_at(builder, pointer, offset), align=4)


def store_past(builder: ir.IRBuilder, vector: ir.Value, pointer: ir.Value, offset: ir.Value) -> None:
    """Emit a store past the caches; the address must be a multiple of the vector's size."""
    stored = builder.store(vector, vector_at(builder, pointer, offset), align=4 * LANES)
    stored.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_I32, 1)]))


def multiply_add(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """Emit a * b + c of vectors, rounded once; a processor without the instruction calls libm for it."""
    kind = ir.FunctionType(a.type, [a.type] * 3)
    fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{a.type.count}f32")
    return builder.call(fma, [a, b, c])


def rectify(builder: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    """Emit max(vector, +0); a NaN stays."""
    zero = constant_like(vector, 0)
    return builder.select(builder.fcmp_ordered("<=", vector, zero), zero, vector)


def load_vector(builder: ir.IRBuilder, address: ir.Value, offset: ir.Value) -> ir.Value:
    """Emit the load of the vector at an offset from an address."""
    return load(builder, pointer_to(builder, address), offset)


def store_vector(builder: ir.IRBuilder, vector: ir.Value, address: ir.Value, offset: ir.Value) -> None:
    """Emit the store of a vector at an offset from an address."""
    store(builder, vector, pointer_to(builder, address), offset)


def load_register(builder: ir.IRBuilder, pointer: ir.Value, offset: ir.Value) -> ir.Value:
    """Emit the load of one register at an offset from a pointer."""
    return builder.load(_register_at(builder, pointer, offset), align=4)


def store_register(builder: ir.IRBuilder, value: ir.Value, pointer: ir.Value, offset: ir.Value) -> None:
    """Emit the store of one register at an offset from a pointer."""
    builder.store(value, _register_at(builder, pointer, offset), align=4)


def _register_at(builder: ir.IRBuilder, pointer: ir.Value, offset: ir.Value) -> ir.Value:
    return builder.bitcast(builder.gep(pointer, [offset]), REGISTER.as_pointer())


def vector_constant(value: float) -> ir.Constant:
    """Return a vector with one value in all lanes."""
    return ir.Constant(VECTOR, [float(value)] * LANES)


def constant_like(vector: ir.Value, value: float) -> ir.Constant:
    """Return one value in as many lanes as a vector has."""
    return ir.Constant(vector.type, [float(value)] * vector.type.count)


def prefetch(builder: ir.IRBuilder, pointer: ir.Value, *, level: int, to_write: bool = False) -> None:
    """Emit the prefetch of a cache line into the first- or second-level cache; it never faults.

    Parameters
    ----------
    to_write
        No other core shall have the line any more, so that a store need not wait for that.
    """
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    write, locality, data = int(to_write), 4 - level, 1
    builder.call(
        function, [builder.bitcast(pointer, byte), *(ir.Constant(_I32, i) for i in (write, locality, data))]
    )


@contextmanager
def counted(builder: ir.IRBuilder, count: ir.Value) -> Iterator[ir.Value]:
    """Emit a loop that the compiler leaves as it is, and give its index.

    A loop of 16 steps would be written out sixteen times, and its sums would no longer stay in registers.
    """
    before = builder.basic_block
    condition, body, end = (builder.append_basic_block(f"counted.{part}") for part in ("if", "body", "end"))
    builder.branch(condition)
    builder.position_at_end(condition)
    index = builder.phi(_I64)
    builder.cbranch(builder.icmp_signed("<", index, count), body, end)
    builder.position_at_end(body)
    yield index
    following = builder.add(index, constant(1), flags=["nsw"])
    builder.branch(condition).set_metadata("llvm.loop", _as_it_is(builder.module))
    index.add_incoming(constant(0), before)
    index.add_incoming(following, builder.basic_block)
    builder.position_at_end(end)


def _as_it_is(module: ir.Module) -> ir.MDValue:
    keep = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    # A loop's metadata begins with itself, so that no two loops share it.
    loop = module.add_metadata([keep, constant(len(module.metadata))])
    loop.operands = (loop, keep)
    return loop


@intrinsic(prefer_literal=True)
def prefetch_pixels(typing_context, corner, row_bytes, SIDE):
    """Prefetch SIDE x SIDE pixels of LANES channels into the second-level cache.

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
                prefetch(builder, pointer_to(builder, pixel), level=2)

    return types.void(types.int64, types.int64, SIDE), codegen


@intrinsic
def add_vectors(typing_context, target, source, vectors):
    """Add `vectors` vectors at address `source` to those at address `target`."""

    def codegen(_context, builder, _signature, arguments):
        to, of = (pointer_to(builder, address) for address in arguments[:2])
        with cgutils.for_range(builder, arguments[2]) as loop:
            offset = builder.mul(loop.index, constant(LANES))
            total = builder.fadd(load(builder, to, offset), load(builder, of, offset))
            store(builder, total, to, offset)

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def copy_vectors(typing_context, target, source, vectors):
    """Copy `vectors` vectors from address `source` to address `target`."""

    def codegen(_context, builder, _signature, arguments):
        to, of = (pointer_to(builder, address) for address in arguments[:2])
        with cgutils.for_range(builder, arguments[2]) as loop:
            offset = builder.mul(loop.index, constant(LANES))
            store(builder, load(builder, of, offset), to, offset)

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def copy_registers(typing_context, target, source, registers):
    """Copy `registers` times WIDTH floats from address `source` to address `target`."""

    def codegen(_context, builder, _signature, arguments):
        to, of = (builder.inttoptr(address, REGISTER.as_pointer()) for address in arguments[:2])
        with cgutils.for_range(builder, arguments[2]) as loop:
            value = builder.load(builder.gep(of, [loop.index]), align=4)
            builder.store(value, builder.gep(to, [loop.index]), align=4)

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def finish_streaming(typing_context):
    """Order streamed stores before the stores that tell another thread that they are done."""

    def codegen(_context, builder, _signature, _arguments):
        builder.fence("seq_cst")

    return types.void(), codegen


@intrinsic
def transpose(typing_context, target, target_row, source, source_row):
    """Write the transpose of WIDTH x WIDTH floats; addresses, and distances of rows in floats."""

    def codegen(_context, builder, _signature, arguments):
        to, to_row, of, of_row = arguments

        def row_at(address, step, row):
            place = builder.gep(pointer_to(builder, address), [builder.mul(step, constant(row))])
            return builder.bitcast(place, REGISTER.as_pointer())

        rows = [builder.load(row_at(of, of_row, row), align=4) for row in range(WIDTH)]
        for row, register in enumerate(transposed(builder, rows)):
            builder.store(register, row_at(to, to_row, row), align=4)

    return types.void(*[types.int64] * 4), codegen


def transposed(builder: ir.IRBuilder, rows: Sequence[ir.Value]) -> list[ir.Value]:
    """Emit the columns of a square matrix, given as vectors."""
    rows, side = list(rows), len(rows)
    mask = ir.VectorType(_I32, side)
    half = side // 2
    while half:  # swap the off-diagonal half x half blocks within each block of twice the size
        low = [lane if not lane & half else side + lane - half for lane in range(side)]
        high = [lane + half if not lane & half else side + lane for lane in range(side)]
        for row in range(side):
            if not row & half:
                upper, lower = rows[row], rows[row + half]
                rows[row] = builder.shuffle_vector(upper, lower, ir.Constant(mask, low))
                rows[row + half] = builder.shuffle_vector(upper, lower, ir.Constant(mask, high))
        half //= 2
    return rows
