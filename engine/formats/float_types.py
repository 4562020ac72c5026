"""Floating-point types of other programs' tensors, as float32."""

import numpy as np

from layers.layer import Array, Shape

BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of a value of each type that is read."""

_STORED = {"float64": "<f8", "float32": "<f4", "float16": "<f2"}


def as_float32(content: bytes, kind: str, shape: Shape) -> Array:
    """Return little-endian values of one of the types of `BYTES` as float32, which may be read-only.

    A float64 beyond float32 becomes infinite.
    """
    if kind == "bfloat16":  # the upper half of a float32
        upper = np.frombuffer(content, "<u2").astype(np.uint32)
        values: Array = (upper << 16).view(np.float32)
    else:
        with np.errstate(all="ignore"):
            values = np.frombuffer(content, _STORED[kind]).astype(np.float32, copy=False)
    return values.reshape(shape)
