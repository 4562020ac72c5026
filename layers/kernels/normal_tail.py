"""The tail of the normal distribution for kernels: the same bits on every host, vectorised in a loop."""

import numpy as np

from layers.kernels.jit import inline

_SCALE = np.float32(0.35)
_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7, _C8 = (
    np.float32(c)
    for c in (
        0.1396217, 0.1398567, 0.11986914, 0.105368964, -0.022790158, 0.1587211, -0.25532642, 0.14378779,
        -0.02910884,
    )
)  # fmt: skip
_ONE = np.float32(1)


@inline
def normal_tail(a, density):
    """Return the probability beyond `a` of a normal number, given exp(-a*a/2); float32 a >= 0 or NaN.

    It is ``density * t * Q(t)`` with ``t = 1 / (1 + 0.35 a)``, the form of erfc in Abramowitz and Stegun 1964
    (7.1.26), and a polynomial Q of degree 8 fitted to the least relative error over 0 to 13.2, which is 7e-8
    in float64. Float32 adds the rounding of `density`: a*a/2 * 6e-8 relative.
    """
    t = _ONE / (_ONE + _SCALE * a)
    q = _C8
    for c in (_C7, _C6, _C5, _C4, _C3, _C2, _C1, _C0):
        q = q * t + c
    return density * (t * q)
