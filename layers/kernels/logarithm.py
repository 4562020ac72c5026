"""A logarithm for kernels: the same bits on every host, where libm's differ by version and processor."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from layers.kernels.jit import inline

_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_L1, _L2, _L3, _L4, _L5, _L6, _L7 = (
    6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01,
    1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01,
)  # fmt: skip
_SQRT_HALF = np.int64(0x3FE6A09E667F3BCD)  # the bits of sqrt(1/2)


@intrinsic
def _bits_of(typing_context, value):
    def codegen(_context, builder, _signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), codegen


@intrinsic
def _of_bits(typing_context, bits):
    def codegen(_context, builder, _signature, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@inline
def log(x):
    """Return log(x), within one unit in the last place, for a normal float64 x > 0; NaN and infinity stay.

    Range reduction to [sqrt(1/2), sqrt(2)) and the polynomial of Sun's fdlibm (e_log.c).
    """
    if not x < np.inf:
        return x
    bits = _bits_of(x)
    exponent = (bits - _SQRT_HALF) >> np.int64(52)
    f = _of_bits(bits - (exponent << np.int64(52))) - 1.0
    k = float(exponent)
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    r = w * (_L2 + w * (_L4 + w * _L6)) + z * (_L1 + w * (_L3 + w * (_L5 + w * _L7)))
    half = 0.5 * f * f
    return k * _LN2_HIGH - ((half - (s * (half + r) + k * _LN2_LOW)) - f)
