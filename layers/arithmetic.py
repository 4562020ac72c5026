"""Division and rounding of whole numbers, none of them negative, upwards; powers of two.

Kernels may call `ceil_div`: `layers.kernels.jit` tells numba how.
"""


def ceil_div(a: int, b: int) -> int:
    """Return a / b rounded up."""
    return -(-a // b)


def round_up(a: int, b: int) -> int:
    """Return the smallest multiple of b that is not below a."""
    return -(-a // b) * b


def is_power_of_two(a: int) -> bool:
    """Return whether a is 1, 2, 4, ..."""
    return a > 0 and a & (a - 1) == 0
