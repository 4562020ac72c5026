"""Smooth and hard activations, elementwise; y may be x, and dx may be dy.

Each is a pair of functions of one float32: the value, and what dy is multiplied by. That one is made of x or,
where the value tells the place, of y.
"""

from functools import lru_cache

import numpy as np
from numba import int64

from layers.kernels.exponential import exp_nonpositive
from layers.kernels.jit import inline, kernel
from layers.kernels.normal_tail import normal_tail
from layers.kernels.rows import IMAGE, as_rows, copy_row, floats, row_address
from layers.kernels.sigmoid import logistic
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads

GELU, SILU, HARD_SWISH, HARD_SIGMOID, RELU6 = range(5)
"""x times the normal distribution's function; x * sigmoid(x); x * hard_sigmoid(x); clip(x / 6 + 1/2, 0, 1);
clip(x, 0, 6)."""

_ZERO, _HALF, _ONE, _TWO, _THREE, _SIX = (np.float32(value) for value in (0, 0.5, 1, 2, 3, 6))
_DENSITY_0 = np.float32(0.3989422804014327)  # of the normal distribution at 0: 1 / sqrt(2 pi)


def forward(threads: Threads, kind: int, x, y) -> None:
    """Write y; images or vectors. Padded lanes become the value of 0."""
    x, y = as_rows(x), as_rows(y)
    threads.run(_forward(kind), y.shape[0] * y.shape[1], 16 * y.size, x, y)


@lru_cache
def _forward(KIND):
    @kernel(int64, int64, int64, IMAGE, IMAGE)
    def activation_forward(worker, first, last, x, y):
        count = y.shape[3] * LANES
        for task in range(first, last):
            n, block = divmod(task, y.shape[1])
            for i in range(y.shape[2]):
                target = row_address(y, n, block, i)
                copy_row(target, row_address(x, n, block, i), count)
                row = floats(target)
                for e in range(count):
                    if KIND == GELU:
                        row[e] = _gelu(row[e])
                    elif KIND == SILU:
                        row[e] = row[e] * logistic(row[e])
                    elif KIND == HARD_SWISH:
                        row[e] = row[e] * _hard_sigmoid(row[e])
                    elif KIND == HARD_SIGMOID:
                        row[e] = _hard_sigmoid(row[e])
                    else:
                        row[e] = _clip6(row[e])

    return activation_forward


def backward_data(threads: Threads, kind: int, seen, dy, dx) -> None:
    """Write dx; images or vectors.

    Parameters
    ----------
    seen
        x, or y of HARD_SIGMOID and RELU6, whose gradient is 0 at both ends.
    """
    seen, dy, dx = as_rows(seen), as_rows(dy), as_rows(dx)
    threads.run(_backward_data(kind), dx.shape[0] * dx.shape[1], 16 * dx.size, seen, dy, dx)


@lru_cache
def _backward_data(KIND):
    @kernel(int64, int64, int64, IMAGE, IMAGE, IMAGE)
    def activation_backward_data(worker, first, last, seen, dy, dx):
        count = dx.shape[3] * LANES
        for task in range(first, last):
            n, block = divmod(task, dx.shape[1])
            for i in range(dx.shape[2]):
                target = row_address(dx, n, block, i)
                copy_row(target, row_address(dy, n, block, i), count)
                row, value = floats(target), floats(row_address(seen, n, block, i))
                for e in range(count):
                    if KIND == GELU:
                        row[e] = row[e] * _gelu_slope(value[e])
                    elif KIND == SILU:
                        row[e] = row[e] * _silu_slope(value[e])
                    elif KIND == HARD_SWISH:
                        row[e] = row[e] * _hard_swish_slope(value[e])
                    elif KIND == HARD_SIGMOID:
                        inside = row[e] / _SIX
                        row[e] = _ZERO if value[e] <= _ZERO or value[e] >= _ONE else inside
                    else:
                        row[e] = _ZERO if value[e] <= _ZERO or value[e] >= _SIX else row[e]

    return activation_backward_data


@inline
def _gelu(x):
    a = abs(x)
    tail = normal_tail(a, exp_nonpositive(-_HALF * (a * a)))
    return x * (tail if x < _ZERO else _ONE - tail)


@inline
def _gelu_slope(x):
    a = abs(x)
    density = exp_nonpositive(-_HALF * (a * a))
    tail = normal_tail(a, density)
    return (tail if x < _ZERO else _ONE - tail) + x * (density * _DENSITY_0)


@inline
def _silu_slope(x):
    s = logistic(x)
    return s + (x * s) * (_ONE - s)


@inline
def _clip6(x):
    """Return x between 0 and 6; a NaN stays, and -0 becomes 0."""
    raised = _ZERO if x <= _ZERO else x
    return _SIX if raised >= _SIX else raised


@inline
def _hard_sigmoid(x):
    return _clip6(x + _THREE) / _SIX


@inline
def _hard_swish_slope(x):
    middle = (_TWO * x + _THREE) / _SIX
    raised = _ZERO if x <= -_THREE else middle
    return _ONE if x >= _THREE else raised
