"""Intel's tile unit (AMX): eight tiles of 16 rows of 64 bytes, and products of bf16 added to float32.

The product of tiles A (rows of 32 bf16) and B (16 rows of 16 pairs) adds 32 terms to each element of C (rows
of 16 float32), in one order::

    even = odd = +0
    for k in 0 .. 15:
        even = fma(A[row, 2k], B[k, column, 0], even)
        odd = fma(A[row, 2k + 1], B[k, column, 1], odd)
    C[row, column] += even + odd

all rounded to the nearest, numbers below the smallest normal one taken for zeros, as operands and as results.

SOFTWARE computes the same bits on any processor, slowly, with its tiles in memory: what is written for the
unit can be tried without it. Emitters append LLVM instructions to a builder; addresses are int64, distances
bytes. Who uses SOFTWARE is in the mode that flushes (`flush_mode`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from llvmlite import ir
from numba.core import cgutils

from layers.kernels.compile_time import CompileTime
from layers.kernels.simd import LANES, VECTOR, constant, counted, multiply_add, splat, vector_constant

TILES, ROWS, ROW_BYTES = 8, 16, 64
TILE_BYTES = ROWS * ROW_BYTES
TERMS = 32
"""Terms that one product adds to an element."""

MEMORY_FLOATS = (TILES * TILE_BYTES + ROW_BYTES) // 4
"""Memory that a thread gives its unit, in floats."""


@dataclass(frozen=True)
class TileUnit(CompileTime):
    """What a kernel's tiles are."""

    hardware: bool


HARDWARE, SOFTWARE = TileUnit(True), TileUnit(False)


class Emitter(ABC):
    """Emits the instructions of a unit; tiles are named by Python's integers."""

    def __init__(self, builder: ir.IRBuilder, memory: ir.Value):
        self.builder, self.memory = builder, memory

    @abstractmethod
    def configure(self, rows: Sequence[ir.Value]) -> None:
        """Give each of the tiles its rows, 1 to 16; all become zero."""

    @abstractmethod
    def release(self) -> None:
        """Leave the unit as it is for those who do not use it."""

    @abstractmethod
    def zero(self, tile: int) -> None:
        """Make all elements +0."""

    @abstractmethod
    def load(self, tile: int, address: ir.Value, row: ir.Value) -> None:
        """Read the tile's rows, which lie `row` bytes apart; 0: all are the same."""

    @abstractmethod
    def store(self, tile: int, address: ir.Value, row: ir.Value) -> None:
        """Write the tile's rows, `row` bytes apart."""

    @abstractmethod
    def multiply(self, c: int, a: int, b: int) -> None:
        """Add the product of `a` and `b` to `c`."""


def emitter(builder: ir.IRBuilder, unit: TileUnit, memory: ir.Value) -> Emitter:
    """Return what emits the instructions of a unit, whose memory is at an address."""
    return (_Hardware if unit.hardware else _Software)(builder, memory)


_BYTE, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_POINTER = _BYTE.as_pointer()


class _Hardware(Emitter):
    def configure(self, rows):
        palette, unused = [1], [0]
        row_bytes = [ROW_BYTES, 0] * TILES + [0] * 16  # of each tile, as 16-bit numbers
        for at, number in enumerate([*palette, *unused * 15, *row_bytes]):
            self._set_byte(at, ir.Constant(_BYTE, number))
        for at, number in enumerate([*rows, *[constant(0)] * 8]):
            self._set_byte(48 + at, self.builder.trunc(number, _BYTE))
        self._call("ldtilecfg", self.builder.inttoptr(self.memory, _POINTER))

    def _set_byte(self, at, value):
        place = self.builder.add(self.memory, constant(at))
        self.builder.store(value, self.builder.inttoptr(place, _POINTER))

    def release(self):
        self._call("tilerelease")

    def zero(self, tile):
        self._call("tilezero", _tile(tile))

    def load(self, tile, address, row):
        self._call("tileloadd64", _tile(tile), self.builder.inttoptr(address, _POINTER), row)

    def store(self, tile, address, row):
        self._call("tilestored64", _tile(tile), self.builder.inttoptr(address, _POINTER), row)

    def multiply(self, c, a, b):
        self._call("tdpbf16ps", _tile(c), _tile(a), _tile(b))

    def _call(self, name, *arguments):
        kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.x86.{name}")
        self.builder.call(function, arguments)


def _tile(number):
    return ir.Constant(_BYTE, number)


class _Software(Emitter):
    """Calls functions of the module, so that a kernel does not hold a unit in each place."""

    def configure(self, rows):
        for tile in range(TILES):
            number = self.builder.trunc(rows[tile], _BYTE)
            self.builder.store(number, _rows_at(self.builder, self.memory, constant(tile)))
            self.zero(tile)

    def release(self):
        pass  # a tile that is used without being configured again has no rows

    def zero(self, tile):
        at = self.builder.inttoptr(_tile_at(self.builder, self.memory, constant(tile)), _POINTER)
        cgutils.memset(self.builder, at, constant(TILE_BYTES), 0)

    def load(self, tile, address, row):
        self.zero(tile)
        self._call(_move_in, constant(tile), address, row)

    def store(self, tile, address, row):
        self._call(_move_out, constant(tile), address, row)

    def multiply(self, c, a, b):
        self._call(_multiply, *(constant(tile) for tile in (c, a, b)))

    def _call(self, body, *arguments):
        kind = ir.FunctionType(ir.VoidType(), [_I64] * (1 + len(arguments)))
        name = f"software_tiles{body.__name__}"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        if function.is_declaration:
            function.linkage = "internal"
            builder = ir.IRBuilder(function.append_basic_block())
            body(builder, *function.args)
            builder.ret_void()
        self.builder.call(function, [self.memory, *arguments])


def _tile_at(builder, memory, tile):
    return builder.add(memory, builder.mul(tile, constant(TILE_BYTES)))


def _rows_at(builder, memory, tile):
    return builder.inttoptr(builder.add(memory, builder.add(tile, constant(TILES * TILE_BYTES))), _POINTER)


@contextmanager
def _each_row(builder, memory, tile) -> Iterator[ir.Value]:
    rows = builder.zext(builder.load(_rows_at(builder, memory, tile)), _I64)
    with counted(builder, rows) as row:
        yield row


_WORDS = ir.VectorType(_I32, LANES)


def _words_at(builder, address, row, step):
    return builder.inttoptr(builder.add(address, builder.mul(row, step)), _WORDS.as_pointer())


def _move_in(builder, memory, tile, address, step):
    with _each_row(builder, memory, tile) as row:
        words = builder.load(_words_at(builder, address, row, step), align=1)
        at = _tile_at(builder, memory, tile)
        builder.store(words, _words_at(builder, at, row, constant(ROW_BYTES)), align=4)


def _move_out(builder, memory, tile, address, step):
    with _each_row(builder, memory, tile) as row:
        at = _tile_at(builder, memory, tile)
        words = builder.load(_words_at(builder, at, row, constant(ROW_BYTES)), align=4)
        builder.store(words, _words_at(builder, address, row, step), align=1)


def _multiply(builder, memory, c, a, b):
    a, b, rows_of_c = (_tile_at(builder, memory, tile) for tile in (a, b, c))
    even, odd = (cgutils.alloca_once(builder, VECTOR) for _ in range(2))
    with _each_row(builder, memory, c) as row:
        for chain in (even, odd):
            builder.store(vector_constant(0), chain)
        a_row = builder.add(a, builder.mul(row, constant(ROW_BYTES)))
        with counted(builder, constant(ROWS)) as k:
            word = builder.inttoptr(builder.add(a_row, builder.mul(k, constant(4))), _I32.as_pointer())
            pair = splat(builder, builder.load(word, align=4))
            pairs = builder.load(_words_at(builder, b, k, constant(ROW_BYTES)), align=4)
            for chain, widened in ((even, _lower), (odd, _upper)):
                terms = (widened(builder, words) for words in (pair, pairs))
                builder.store(multiply_add(builder, *terms, builder.load(chain)), chain)
        place = _words_at(builder, rows_of_c, row, constant(ROW_BYTES))
        before = builder.bitcast(builder.load(place, align=4), VECTOR)
        total = builder.fadd(before, builder.fadd(builder.load(even), builder.load(odd)))
        builder.store(builder.bitcast(total, _WORDS), place, align=4)


def _lower(builder, words):
    return builder.bitcast(builder.shl(words, ir.Constant(_WORDS, [16] * LANES)), VECTOR)


def _upper(builder, words):
    return builder.bitcast(builder.and_(words, ir.Constant(_WORDS, [-0x10000] * LANES)), VECTOR)
