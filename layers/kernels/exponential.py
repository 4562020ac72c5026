"""An exponential for kernels: the same bits on every host, and vectorised when called in a loop."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from layers.kernels.jit import inline

_LOG2_E = np.float32(1.4426950408889634)
_ROUND = np.float32(1.5 * 2**23)  # added to a small number, leaves its nearest integer in the low bits
_ROUND_BITS = np.int32(_ROUND.view(np.int32))
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_SMALLEST = np.float32(-87.3)  # below, the result is not a normal number: 0
_C0, _C1, _C2, _C3, _C4, _C5 = (
    np.float32(c)
    for c in (
        5.0000001201e-1, 1.6666665459e-1, 4.1665795894e-2, 8.3334519073e-3, 1.3981999507e-3, 1.9875691500e-4,
    )
)  # fmt: skip
_ONE, _ZERO = np.float32(1), np.float32(0)


@intrinsic
def _bits_of(typing_context, value):
    def codegen(_context, builder, _signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), codegen


@intrinsic
def _power_of_two(typing_context, exponent):
    """Return 2**exponent for -126 <= exponent <= 127."""

    def codegen(_context, builder, _signature, arguments):
        int32 = ir.IntType(32)
        biased = builder.add(arguments[0], ir.Constant(int32, 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(int32, 23)), ir.FloatType())

    return types.float32(types.int32), codegen


@inline
def exp_nonpositive(x):
    """Return exp(x) for float32 x <= 0 or NaN, within 2e-7 relative.

    Range reduction to |r| <= ln(2)/2 and the polynomial of Moshier's Cephes library (expf).
    """
    shifted = x * _LOG2_E + _ROUND
    whole = shifted - _ROUND
    r = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
    p = ((((_C5 * r + _C4) * r + _C3) * r + _C2) * r + _C1) * r + _C0
    result = (p * (r * r) + (r + _ONE)) * _power_of_two(np.int32(_bits_of(shifted) - _ROUND_BITS))
    return _ZERO if x < _SMALLEST else result
