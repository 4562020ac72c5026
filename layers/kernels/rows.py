"""Rows of activations as plain pointers, so that the compiler vectorises a kernel's inner loop.

A row, W pixels of LANES channels, is contiguous in every activation; only the distance of rows,
blocks and samples differs. Elementwise kernels copy a row to its target and change it there while
it is in cache: one pointer leaves no doubt about overlap, and a kernel may run in place.
"""

from typing import Any

from llvmlite import ir
from numba import float32, types
from numba.extending import intrinsic

from layers.kernels.jit import inline
from layers.kernels.simd import LANES

IMAGE = float32[:, :, :, :, :]


def as_rows(x):
    """View ``[N, F]`` as images of one row, ``[N, 1, 1, F/LANES, LANES]``; images stay as they are."""
    return x if x.ndim == 5 else x.reshape(x.shape[0], 1, 1, -1, LANES)


def as_channels(x: Any) -> Any:
    """View ``[N, F]`` as images of one pixel, ``[N, F/LANES, 1, 1, LANES]``; images stay as they are."""
    return x if x.ndim == 5 else x.reshape(x.shape[0], -1, 1, 1, LANES)


@intrinsic
def floats(typing_context, address):
    """Return the pointer to float32 at an address."""

    def codegen(_context, builder, _signature, arguments):
        return builder.inttoptr(arguments[0], ir.FloatType().as_pointer())

    return types.CPointer(types.float32)(types.int64), codegen


@inline
def row_address(x, n, block, i):
    """Return the address of row `i` of one block of one sample."""
    return x.ctypes.data + n * x.strides[0] + block * x.strides[1] + i * x.strides[2]


@inline
def copy_row(target, source, count):
    """Copy `count` floats from address `source` to `target`, unless they are the same."""
    if target != source:
        to, of = floats(target), floats(source)
        for e in range(count):
            to[e] = of[e]
