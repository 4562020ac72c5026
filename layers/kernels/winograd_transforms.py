"""The transforms of Winograd's minimal filtering on 6x6 tiles, as straight-line vector code.

Winograd (1980), Lavin and Gray (arXiv:1509.09308): with M outputs and R taps a side, M + R - 1 = 6, the
correlation is ``A^T [(G g G^T) * (B^T d B)] A``. The points 0, 1, -1, 2, -2 and infinity give B^T for both
F(4x4, 3x3) and F(2x2, 5x5); G and A^T follow from R and M. The weight gradient is the exact transpose:
``G^T [(B^T d B) * (A dy A^T)] G``.

Each transform acts on LANES channels at once: columns first, then rows.
"""

from collections.abc import Callable, Sequence

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from layers.kernels.epilogue import NONE, RELU, RELU_POOL, pool_window, store_bytes
from layers.kernels.simd import (
    LANES,
    constant,
    load_vector,
    multiply_add,
    rectify,
    store_vector,
    vector_constant,
)

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
        return self._builder.fmul(vector_constant(factor), a)

    def _fma(self, factor: float, a: ir.Value, b: ir.Value) -> ir.Value:
        return multiply_add(self._builder, vector_constant(factor), a, b)

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


def _transform(builder: ir.IRBuilder, kind: int, outputs: int, tile: Sequence[Vectors]) -> list[Vectors]:
    lines = _Lines(builder, outputs)
    line = {
        INPUT: lines.input,
        OUTPUT_GRADIENT: lines.output_gradient,
        WEIGHT: lines.weight,
        OUTPUT: lines.output,
        WEIGHT_GRADIENT: lines.weight_gradient,
    }[kind]
    columns = [line([row[j] for row in tile]) for j in range(len(tile[0]))]
    return [line([column[i] for column in columns]) for i in range(len(columns[0]))]


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
        Addresses of float32 vectors.
    source_row, ..., target_column : int64
        Distances in floats of the tile's rows and columns.
    """
    literals = (KIND, OUTPUTS)
    if not all(isinstance(literal, types.IntegerLiteral) for literal in literals):
        return None
    kind, outputs = (literal.literal_value for literal in literals)
    before, _ = _SIDES[kind](outputs)

    def codegen(_context, builder, _signature, arguments):
        source, s_row, s_column, target, t_row, t_column = arguments[2:]
        tile = [
            [load_vector(builder, source, _at(builder, i, s_row, j, s_column)) for j in range(before)]
            for i in range(before)
        ]
        _store(builder, _transform(builder, kind, outputs, tile), target, t_row, t_column)

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
        tile = []
        for i in range(before):
            row = builder.extract_value(addresses, i)
            offsets = [builder.mul(s_column, constant(j)) for j in range(before)]
            tile.append([load_vector(builder, row, offset) for offset in offsets])
        _store(builder, _transform(builder, kind, outputs, tile), target, t_row, t_column)

    addresses = types.UniTuple(types.int64, before)
    return types.void(*literals, addresses, *[types.int64] * 4), codegen


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
        tile = [
            [load_vector(builder, source, _at(builder, i, step_row, j, step)) for j in range(POINTS)]
            for i in range(POINTS)
        ]
        offset = load_vector(builder, bias, constant(0))
        rows = _transform(builder, OUTPUT, outputs, tile)
        rows = [[builder.fadd(vector, offset) for vector in row] for row in rows]
        with builder.if_then(builder.icmp_signed("==", epilogue, constant(NONE))):
            _store(builder, rows, target, t_row, t_column)
        with builder.if_then(builder.icmp_signed("==", epilogue, constant(RELU))):
            _store(builder, [[rectify(builder, v) for v in row] for row in rows], target, t_row, t_column)
        with builder.if_then(builder.icmp_signed("==", epilogue, constant(RELU_POOL))):
            for i in range(0, outputs, 2):
                for j in range(0, outputs, 2):
                    window = [rows[i][j], rows[i][j + 1], rows[i + 1][j], rows[i + 1][j + 1]]
                    best, tap = pool_window(builder, window)
                    store_vector(builder, best, target, _at(builder, i // 2, t_row, j // 2, t_column))
                    where = _at(builder, i // 2, argmax_row, j // 2, t_column)
                    store_bytes(builder, tap, builder.add(argmax, where))

    return types.void(OUTPUTS, *[types.int64] * 8), codegen


def _at(builder: ir.IRBuilder, row: int, row_step: ir.Value, column: int, column_step: ir.Value) -> ir.Value:
    return builder.add(builder.mul(row_step, constant(row)), builder.mul(column_step, constant(column)))


def _store(builder, tile, target, row_step, column_step):
    for i, row in enumerate(tile):
        for j, vector in enumerate(row):
            store_vector(builder, vector, target, _at(builder, i, row_step, j, column_step))
