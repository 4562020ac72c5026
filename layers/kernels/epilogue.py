"""ReLU and 2x2 maximum pooling of a convolution's results while they are in registers or cache, and back.

The way back makes rows of the gradient before pooling from the pooled gradient. Both directions compute the
same bits as the layers ReLU and MaxPool(2, 2) one after the other.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import float32, int64, types, uint8
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from layers.kernels.jit import kernel
from layers.kernels.leaves import tree_add
from layers.kernels.rows import IMAGE, row_address
from layers.kernels.runs import rows_of_run, runs_of_leaf
from layers.kernels.simd import (
    LANES,
    VECTOR,
    constant,
    constant_like,
    load_vector,
    splat,
    store_vector,
    vector_constant,
)
from layers.kernels.threads import Threads

NONE, RELU, RELU_POOL = range(3)
"""y; max(y, 0); the maxima of 2x2 windows of that, side by side without padding."""

NOBODY = 255
"""The tap of a window without a positive value: no gradient goes through it."""

TAPS = uint8[:, :, :, :, ::1]
_BYTE = ir.IntType(8)
BYTES = ir.VectorType(_BYTE, LANES)


class Epilogue(NamedTuple):
    """What follows a convolution: NONE, RELU or RELU_POOL, and the array for the places of the maxima."""

    kind: int
    argmax: NDArray[Any]
    """uint8 [N, K/LANES, OH/2, OW/2, LANES]: the tap, 2 * row + column, or NOBODY. Read and written only
    with RELU_POOL."""

    @property
    def window(self) -> int:
        """Rows (and columns) of the convolution for one row (column) of the result."""
        return 2 if self.kind == RELU_POOL else 1


_UNUSED = np.zeros((1, 1, 1, 1, LANES), np.uint8)
PLAIN, RECTIFIED = Epilogue(NONE, _UNUSED), Epilogue(RELU, _UNUSED)


def pooled(argmax: NDArray[Any]) -> Epilogue:
    """Return the epilogue of ReLU and pooling, which writes its taps to `argmax`."""
    return Epilogue(RELU_POOL, argmax)


def wins(builder: ir.IRBuilder, value: ir.Value, best: ir.Value) -> ir.Value:
    """Emit the mask of lanes where a value beats the best so far: the first of equals stays, a NaN wins."""
    return builder.or_(builder.fcmp_ordered(">", value, best), builder.fcmp_unordered("uno", value, value))


def splat_byte(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    """Emit a vector of the low byte of an int64."""
    return splat(builder, builder.trunc(number, _BYTE))


def load_bytes(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    """Emit the load of LANES bytes."""
    return builder.load(builder.inttoptr(address, BYTES.as_pointer()), align=1)


def store_bytes(builder: ir.IRBuilder, value: ir.Value, address: ir.Value) -> None:
    """Emit the store of a vector of bytes."""
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


def pool_window(builder: ir.IRBuilder, window: list[ir.Value]) -> tuple[ir.Value, ir.Value]:
    """Emit the rectified maximum of the four vectors of a window, and its taps."""
    lanes = window[0].type.count
    best, tap = window[0], _taps(0, lanes)
    for number, value in enumerate(window[1:], start=1):
        better = wins(builder, value, best)
        best, tap = builder.select(better, value, best), builder.select(better, _taps(number, lanes), tap)
    zero = constant_like(best, 0)
    dead = builder.fcmp_ordered("<=", best, zero)
    return builder.select(dead, zero, best), builder.select(dead, _taps(NOBODY, lanes), tap)


def _taps(number: int, lanes: int) -> ir.Constant:
    return ir.Constant(ir.VectorType(_BYTE, lanes), [number] * lanes)


@intrinsic
def pool_rows(typing_context, upper, lower, windows, y, argmax):
    """Pool two rows of a convolution, at addresses `upper` and `lower`, into `windows` pixels of y."""

    def codegen(_context, builder, _signature, arguments):
        upper, lower, windows, y, argmax = arguments
        with cgutils.for_range(builder, windows) as loop:
            offset = builder.mul(loop.index, constant(2 * LANES))
            following = builder.add(offset, constant(LANES))
            window = [load_vector(builder, row, at) for row in (upper, lower) for at in (offset, following)]
            best, tap = pool_window(builder, window)
            lanes = builder.mul(loop.index, constant(LANES))
            store_vector(builder, best, y, lanes)
            store_bytes(builder, tap, builder.add(argmax, lanes))

    return types.void(*[types.int64] * 5), codegen


@intrinsic
def unpool_row(typing_context, dy, argmax, windows, first_tap, target):
    """Write one row of the gradient before pooling: of each window, the taps `first_tap` and the next.

    Parameters
    ----------
    dy, argmax, target : int64
        Addresses of the pooled row and its taps, and of the 2 * `windows` pixels to write.
    """

    def codegen(_context, builder, _signature, arguments):
        dy, argmax, windows, first_tap, target = arguments
        zero = vector_constant(0)
        taps = [splat_byte(builder, builder.add(first_tap, constant(number))) for number in range(2)]
        with cgutils.for_range(builder, windows) as loop:
            lanes = builder.mul(loop.index, constant(LANES))
            value = load_vector(builder, dy, lanes)
            value = builder.fadd(value, zero)  # -0 becomes +0, as in a sum over windows
            where = load_bytes(builder, builder.add(argmax, lanes))
            at = builder.mul(lanes, constant(2))
            for number, tap in enumerate(taps):
                term = builder.select(builder.icmp_unsigned("==", where, tap), value, zero)
                store_vector(builder, term, target, builder.add(at, constant(number * LANES)))

    return types.void(*[types.int64] * 5), codegen


@intrinsic
def _add_unpooled_row(typing_context, dy, argmax, windows, half, total):
    """Add to the vector at `total`, pixel after pixel, the gradients of one row before pooling.

    `half` is 0 for the upper row of the windows and 1 for the lower; a window has at most one pixel in it.
    """

    def codegen(_context, builder, _signature, arguments):
        dy, argmax, windows, half, total = arguments
        zero = vector_constant(0)
        wanted = splat_byte(builder, half)
        shift = ir.Constant(BYTES, [1] * LANES)
        running = cgutils.alloca_once(builder, VECTOR)
        builder.store(load_vector(builder, total, constant(0)), running)
        with cgutils.for_range(builder, windows) as loop:
            lanes = builder.mul(loop.index, constant(LANES))
            where = builder.lshr(load_bytes(builder, builder.add(argmax, lanes)), shift)
            term = builder.select(
                builder.icmp_unsigned("==", where, wanted), load_vector(builder, dy, lanes), zero
            )
            builder.store(builder.fadd(builder.load(running), term), running)
        store_vector(builder, builder.load(running), total, constant(0))

    return types.void(*[types.int64] * 5), codegen


@intrinsic
def copy_taps(typing_context, target, source, windows):
    """Copy the taps of `windows` pixels."""

    def codegen(_context, builder, _signature, arguments):
        target, source, windows = arguments
        with cgutils.for_range(builder, windows) as loop:
            lanes = builder.mul(loop.index, constant(LANES))
            store_bytes(builder, load_bytes(builder, builder.add(source, lanes)), builder.add(target, lanes))

    return types.void(*[types.int64] * 3), codegen


def unpool(threads: Threads, dy, argmax, dx) -> None:
    """Write the whole gradient before pooling.

    Parameters
    ----------
    dy : float32 [N, K/LANES, PH, PW, LANES]
    argmax : uint8, the same shape
    dx : float32 [N, K/LANES, H, W, LANES]
        H is 2 * PH or one more, W likewise; what no window covers becomes zero.
    """
    threads.run(_unpool(), dx.shape[0] * dx.shape[1], dx.size, dy, argmax, dx)


@lru_cache
def _unpool():
    @kernel(int64, int64, int64, IMAGE, TAPS, IMAGE)
    def epilogue_unpool(worker, first, last, dy, argmax, dx):
        blocks, height, width = dx.shape[1], dx.shape[2], dx.shape[3]
        rows, columns = dy.shape[2], dy.shape[3]
        for task in range(first, last):  # one plane of one block of channels
            n, block = divmod(task, blocks)
            for h in range(height):
                i, half = divmod(h, 2)
                covered = 2 * columns if i < rows else 0
                if covered > 0:
                    unpool_row(
                        row_address(dy, n, block, i), row_address(argmax, n, block, i), columns, 2 * half,
                        row_address(dx, n, block, h),
                    )  # fmt: skip
                for w in range(covered, width):
                    for lane in range(LANES):
                        dx[n, block, h, w, lane] = float32(0)

    return epilogue_unpool


def bias_gradient(threads: Threads, dy, argmax, stack, gradient, leaves: int, image: tuple[int, int]) -> None:
    """Write the sum of the gradient before pooling over samples and pixels: runs and leaves as a tree.

    The bits are those of `conv_direct_weights.bias_gradient` of what `unpool` writes, from a quarter of the
    memory.

    Parameters
    ----------
    dy, argmax
        As for `unpool`.
    stack : float32 [threads, stack_depth(runs of all leaves), LANES]
        Working memory.
    gradient : float32 [K rounded up to LANES]
    image : (rows, columns)
        Of the gradient before pooling.
    """
    cut = runs_of_leaf(len(dy) // leaves, *image)
    threads.run(
        _bias_gradient(), dy.shape[1], 2 * dy.size, dy, argmax, stack, gradient, leaves, cut, image[0]
    )


@lru_cache
def _bias_gradient():
    @kernel(int64, int64, int64, IMAGE, TAPS, float32[:, :, ::1], float32[::1], int64, int64, int64)
    def epilogue_bias_gradient(worker, first, last, dy, argmax, stack, gradient, leaves, cut, rows):
        per_leaf, columns = dy.shape[0] // leaves, dy.shape[3]
        base, level = stack.ctypes.data + worker * stack.strides[0], stack.strides[1]
        for block in range(first, last):
            top = 0
            for run in range(leaves * cut):
                first_row, end_row = rows_of_run(run, cut, per_leaf, rows)
                for lane in range(LANES):
                    stack[worker, top, lane] = float32(0)
                for row in range(first_row, end_row):
                    n, i = divmod(row, rows)
                    window, half = divmod(i, 2)
                    if window < dy.shape[2]:  # else no window covers the row
                        _add_unpooled_row(
                            row_address(dy, n, block, window), row_address(argmax, n, block, window), columns,
                            half, base + top * level,
                        )  # fmt: skip
                top = tree_add(base, level, top, run, 1)
            for lane in range(LANES):
                gradient[block * LANES + lane] = stack[worker, 0, lane]

    return epilogue_bias_gradient
