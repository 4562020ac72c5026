"""The transforms of Winograd's minimal filtering on 6x6 tiles, as straight-line vector code.

Winograd (1980), Lavin and Gray (arXiv:1509.09308): with M outputs and R taps a side, M + R - 1 = 6, the
correlation is ``A^T [(G g G^T) * (B^T d B)] A``. The points 0, 1, -1, 2, -2 and infinity give B^T for both
F(4x4, 3x3) and F(2x2, 5x5); G and A^T follow from R and M. The weight gradient is the exact transpose:
``G^T [(B^T d B) * (A dy A^T)] G``.

Each transform acts on LANES channels: columns first, then rows. What one register holds is transformed by
itself, and some rows of the result at a time, so that no value leaves the registers in between; what several
of these groups need is loaded again.
"""

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from layers.kernels.epilogue import NONE, RELU, RELU_POOL, pool_window, store_bytes
from layers.kernels.simd import (
    LANES,
    WIDTH,
    constant,
    constant_like,
    load_register,
    multiply_add,
    pointer_to,
    rectify,
    store_register,
)
from layers.kernels.target import TARGET

POINTS = 6
"""Tile size: positions along one side of a transformed tile."""

Vectors = list[ir.Value]
INPUT, OUTPUT_GRADIENT, WEIGHT, OUTPUT, WEIGHT_GRADIENT = range(5)
"""B^T d B; A dy A^T; G g G^T; A^T m A; G^T u G."""


class _Lines:
    """One-dimensional transforms of vectors; `outputs` and `taps` are M and R."""

    def __init__(self, builder: ir.IRBuilder, outputs: int):
        self._builder, self._outputs, self._taps = builder, outputs, POINTS + 1 - outputs

    def _add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self._builder.fadd(a, b)

    def _subtract(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self._builder.fsub(a, b)

    def _scale(self, factor: float, a: ir.Value) -> ir.Value:
        return self._builder.fmul(constant_like(a, factor), a)

    def _fma(self, factor: float, a: ir.Value, b: ir.Value) -> ir.Value:
        return multiply_add(self._builder, constant_like(a, factor), a, b)

    def input(self, d: Vectors) -> Vectors:
        """Apply B^T: 6 -> 6."""
        even1, odd1 = self._fma(-4, d[2], d[4]), self._fma(-4, d[1], d[3])
        even2, odd2 = self._subtract(d[4], d[2]), self._subtract(d[3], d[1])
        return [
            self._fma(4, d[0], self._fma(-5, d[2], d[4])),
            self._add(even1, odd1),
            self._subtract(even1, odd1),
            self._fma(2, odd2, even2),
            self._fma(-2, odd2, even2),
            self._fma(4, d[1], self._fma(-5, d[3], d[5])),
        ]

    def output(self, m: Vectors) -> Vectors:
        """Apply A^T: 6 -> M."""
        sum1, difference1 = self._add(m[1], m[2]), self._subtract(m[1], m[2])
        sum2, difference2 = self._add(m[3], m[4]), self._subtract(m[3], m[4])
        first = self._add(self._add(m[0], sum1), sum2)
        if self._outputs == 2:
            return [first, self._add(self._fma(2, difference2, difference1), m[5])]
        return [
            first,
            self._fma(2, difference2, difference1),
            self._fma(4, sum2, sum1),
            self._add(self._fma(8, difference2, difference1), m[5]),
        ]

    def output_gradient(self, y: Vectors) -> Vectors:
        """Apply A: M -> 6."""
        if self._outputs == 2:
            return [
                y[0],
                self._add(y[0], y[1]),
                self._subtract(y[0], y[1]),
                self._fma(2, y[1], y[0]),
                self._fma(-2, y[1], y[0]),
                y[1],
            ]
        even1, odd1 = self._add(y[0], y[2]), self._add(y[1], y[3])
        even2, odd2 = self._fma(4, y[2], y[0]), self._fma(4, y[3], y[1])
        return [
            y[0],
            self._add(even1, odd1),
            self._subtract(even1, odd1),
            self._fma(2, odd2, even2),
            self._fma(-2, odd2, even2),
            y[3],
        ]

    def weight(self, g: Vectors) -> Vectors:
        """Apply G: R -> 6."""
        even1, odd1 = self._add(g[0], g[2]), g[1]
        even2, odd2 = self._fma(4, g[2], g[0]), g[1]
        if self._taps == 5:
            even1, odd1 = self._add(even1, g[4]), self._add(odd1, g[3])
            even2, odd2 = self._fma(16, g[4], even2), self._fma(4, g[3], odd2)
        return [
            self._scale(1 / 4, g[0]),
            self._scale(-1 / 6, self._add(even1, odd1)),
            self._scale(-1 / 6, self._subtract(even1, odd1)),
            self._scale(1 / 24, self._fma(2, odd2, even2)),
            self._scale(1 / 24, self._fma(-2, odd2, even2)),
            g[-1],
        ]

    def weight_gradient(self, u: Vectors) -> Vectors:
        """Apply G^T: 6 -> R."""
        sum1 = self._scale(-1 / 6, self._add(u[1], u[2]))
        difference1 = self._scale(-1 / 6, self._subtract(u[1], u[2]))
        sum2 = self._scale(1 / 24, self._add(u[3], u[4]))
        difference2 = self._scale(1 / 24, self._subtract(u[3], u[4]))
        line = [
            self._add(self._fma(1 / 4, u[0], sum1), sum2),
            self._fma(2, difference2, difference1),
            self._fma(4, sum2, sum1),
        ]
        if self._taps == 5:
            line += [self._fma(8, difference2, difference1), self._fma(16, sum2, sum1)]
        return [*line[:-1], self._add(line[-1], u[5])]


_SIDES: dict[int, Callable[[int], tuple[int, int]]] = {
    INPUT: lambda _outputs: (POINTS, POINTS),
    OUTPUT_GRADIENT: lambda outputs: (outputs, POINTS),
    WEIGHT: lambda outputs: (POINTS + 1 - outputs, POINTS),
    OUTPUT: lambda outputs: (POINTS, outputs),
    WEIGHT_GRADIENT: lambda outputs: (POINTS, POINTS + 1 - outputs),
}
"""Sizes of the tile before and after a transform."""


_SPARE = 6
"""Registers that a transform needs beside the columns' results: for a line and its factors."""


def _groups(kind: int, after: int) -> tuple[tuple[int, ...], ...]:
    """Return the rows of the result by groups: those that share most sums of the same inputs."""
    if kind == OUTPUT:  # whole windows of pooling
        return tuple((row, row + 1) for row in range(0, after, 2))
    if kind == WEIGHT_GRADIENT:
        return ((0, 2), (1,)) if after == 3 else ((0, 2), (1, 3), (4,))
    return (0,), (1, 2), (3, 4), (5,)


def _transform(
    builder: ir.IRBuilder,
    kind: int,
    outputs: int,
    value_at: Callable[[int, int, int], ir.Value],
    finish: Callable[[int, tuple[int, ...], list[Vectors]], None],
) -> None:
    """Emit a transform.

    Parameters
    ----------
    value_at
        Emits the register of the source by its row, column and offset in the vector.
    finish
        Takes the results at an offset: the numbers of some rows, and these.
    """
    lines = _Lines(builder, outputs)
    line = {
        INPUT: lines.input,
        OUTPUT_GRADIENT: lines.output_gradient,
        WEIGHT: lines.weight,
        OUTPUT: lines.output,
        WEIGHT_GRADIENT: lines.weight_gradient,
    }[kind]
    before, after = _SIDES[kind](outputs)
    together = before * after + _SPARE <= TARGET.registers
    for offset in range(0, LANES, WIDTH):
        for rows in (tuple(range(after)),) if together else _groups(kind, after):
            # the compiler drops what the group does not need
            columns = [line([value_at(i, j, offset) for i in range(before)]) for j in range(before)]
            finish(offset, rows, [line([column[row] for column in columns]) for row in rows])


def _storing(
    builder: ir.IRBuilder, target: ir.Value, row_step: ir.Value, column_step: ir.Value
) -> Callable[[int, tuple[int, ...], list[Vectors]], None]:
    """Return what stores the rows of a result in the tile at an address."""
    pointer = pointer_to(builder, target)

    def store_rows(offset: int, numbers: tuple[int, ...], rows: list[Vectors]) -> None:
        for i, row in zip(numbers, rows, strict=True):
            for j, value in enumerate(row):
                place = builder.add(_at(builder, i, row_step, j, column_step), constant(offset))
                store_register(builder, value, pointer, place)

    return store_rows


@intrinsic(prefer_literal=True)
def transform(
    typing_context, KIND, OUTPUTS, source, source_row, source_column, target, target_row, target_column
):
    """Transform a tile of vectors at address `source` into one at `target`.

    Parameters
    ----------
    KIND, OUTPUTS : literal int
        One of the five kinds above; M, 4 or 2.
    source, target : int64
        Addresses of float32 vectors, of tiles that do not overlap.
    source_row, ..., target_column : int64
        Distances in floats of the tile's rows and columns.
    """
    literals = (KIND, OUTPUTS)
    if not all(isinstance(literal, types.IntegerLiteral) for literal in literals):
        return None
    kind, outputs = (literal.literal_value for literal in literals)

    def codegen(_context, builder, _signature, arguments):
        source, s_row, s_column, target, t_row, t_column = arguments[2:]
        source = pointer_to(builder, source)

        def value_at(i, j, offset):
            place = builder.add(_at(builder, i, s_row, j, s_column), constant(offset))
            return load_register(builder, source, place)

        _transform(builder, kind, outputs, value_at, _storing(builder, target, t_row, t_column))

    return types.void(*literals, *[types.int64] * 6), codegen


@intrinsic(prefer_literal=True)
def transform_rows(typing_context, KIND, OUTPUTS, rows, source_column, target, target_row, target_column):
    """Transform a tile whose rows lie at the addresses in the tuple `rows`, as `transform` does.

    Rows outside an image have the address of a row of zeros.
    """
    literals = (KIND, OUTPUTS)
    if not all(isinstance(literal, types.IntegerLiteral) for literal in literals):
        return None
    kind, outputs = (literal.literal_value for literal in literals)
    before, _ = _SIDES[kind](outputs)

    def codegen(_context, builder, _signature, arguments):
        addresses, s_column, target, t_row, t_column = arguments[2:]
        sources = [pointer_to(builder, builder.extract_value(addresses, i)) for i in range(before)]

        def value_at(i, j, offset):
            place = builder.add(builder.mul(s_column, constant(j)), constant(offset))
            return load_register(builder, sources[i], place)

        _transform(builder, kind, outputs, value_at, _storing(builder, target, t_row, t_column))

    addresses = types.UniTuple(types.int64, before)
    return types.void(*literals, addresses, *[types.int64] * 4), codegen


@intrinsic(prefer_literal=True)
def transform_weight_gradient(typing_context, OUTPUTS, source, position, target, tap, adds):
    """Write G^T u G of one vector, or add it to what is there.

    Parameters
    ----------
    OUTPUTS : literal int
    source, target : int64
        Addresses.
    position, tap : int64
        Distances in floats of the positions of u and of the taps, row by row.
    adds : int64
        0: write; 1: add.
    """
    if not isinstance(OUTPUTS, types.IntegerLiteral):
        return None
    outputs = OUTPUTS.literal_value

    def codegen(_context, builder, _signature, arguments):
        source, step, target, tap, adds = arguments[1:]
        source, taps = pointer_to(builder, source), pointer_to(builder, target)
        step_row, tap_row = (
            builder.mul(step, constant(POINTS)),
            builder.mul(tap, constant(POINTS + 1 - outputs)),
        )
        store_rows = _storing(builder, target, tap_row, tap)

        def value_at(i, j, offset):
            place = builder.add(_at(builder, i, step_row, j, step), constant(offset))
            return load_register(builder, source, place)

        def finish(offset, numbers, rows):
            with builder.if_else(builder.icmp_signed("==", adds, constant(0))) as (then, otherwise):
                with then:
                    store_rows(offset, numbers, rows)
                with otherwise:
                    for i, row in zip(numbers, rows, strict=True):
                        for j, value in enumerate(row):
                            place = builder.add(_at(builder, i, tap_row, j, tap), constant(offset))
                            total = builder.fadd(load_register(builder, taps, place), value)
                            store_register(builder, total, taps, place)

        _transform(builder, WEIGHT_GRADIENT, outputs, value_at, finish)

    return types.void(OUTPUTS, *[types.int64] * 5), codegen


@intrinsic(prefer_literal=True)
def transform_output(
    typing_context, OUTPUTS, source, position, bias, epilogue, target, target_row, argmax, argmax_row
):
    """Write A^T m A plus a bias vector, or what an epilogue makes of it.

    Parameters
    ----------
    OUTPUTS : literal int
    source, bias, target, argmax : int64
        Addresses; `argmax` of bytes, read where the epilogue is RELU_POOL.
    position, target_row, argmax_row : int64
        Distances: of the positions of m, row by row, and of target rows in floats; of taps in bytes.
    epilogue : int64
        NONE, RELU or RELU_POOL.
    """
    if not isinstance(OUTPUTS, types.IntegerLiteral):
        return None
    outputs = OUTPUTS.literal_value

    def codegen(_context, builder, _signature, arguments):
        source, step, bias, epilogue, target, t_row, argmax, argmax_row = arguments[1:]
        step_row, t_column = builder.mul(step, constant(POINTS)), constant(LANES)
        source, bias, pooled = (pointer_to(builder, address) for address in (source, bias, target))
        store_rows = _storing(builder, target, t_row, t_column)

        def value_at(i, j, offset):
            place = builder.add(_at(builder, i, step_row, j, step), constant(offset))
            return load_register(builder, source, place)

        def finish(offset, numbers, rows):
            term = load_register(builder, bias, constant(offset))
            rows = [[builder.fadd(value, term) for value in row] for row in rows]
            with builder.if_then(builder.icmp_signed("==", epilogue, constant(NONE))):
                store_rows(offset, numbers, rows)
            with builder.if_then(builder.icmp_signed("==", epilogue, constant(RELU))):
                store_rows(offset, numbers, [[rectify(builder, value) for value in row] for row in rows])
            with builder.if_then(builder.icmp_signed("==", epilogue, constant(RELU_POOL))):
                for first in range(0, len(rows), 2):
                    i = numbers[first] // 2
                    for j in range(outputs // 2):
                        window = [row[2 * j + side] for row in rows[first : first + 2] for side in (0, 1)]
                        best, tap = pool_window(builder, window)
                        place = builder.add(_at(builder, i, t_row, j, t_column), constant(offset))
                        store_register(builder, best, pooled, place)
                        where = builder.add(_at(builder, i, argmax_row, j, t_column), constant(offset))
                        store_bytes(builder, tap, builder.add(argmax, where))

        _transform(builder, OUTPUT, outputs, value_at, finish)

    return types.void(OUTPUTS, *[types.int64] * 8), codegen


def _at(builder: ir.IRBuilder, row: int, row_step: ir.Value, column: int, column_step: ir.Value) -> ir.Value:
    return builder.add(builder.mul(row_step, constant(row)), builder.mul(column_step, constant(column)))
