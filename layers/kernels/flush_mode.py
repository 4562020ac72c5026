"""A mode inside a kernel in which numbers below the smallest normal one are zero, as operands and as results.

Intel's tile unit computes so, whatever the thread's mode is; what is to have its bits must do likewise. A
kernel that begins it also ends it, on every path: elsewhere such numbers are kept (`float_mode`).
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from layers.kernels.float_mode import FPCR, IS_ARM, MXCSR, write_word
from layers.kernels.simd import constant

_FLUSHING_X86 = MXCSR | 0x8040  # results (flush to zero) and operands (denormals are zero)
_FLUSHING_ARM = FPCR | 1 << 24  # both


@intrinsic
def begin_flushing(typing_context):
    """Take subnormal numbers for zeros from here on, on the thread that runs this."""

    def codegen(_context, builder, _signature, _arguments):
        emit_flushing(builder, on=True)

    return types.void(), codegen


@intrinsic
def end_flushing(typing_context):
    """Keep subnormal numbers again."""

    def codegen(_context, builder, _signature, _arguments):
        emit_flushing(builder, on=False)

    return types.void(), codegen


def emit_flushing(builder: ir.IRBuilder, *, on: bool) -> None:
    """Emit the change of mode; arithmetic on what memory holds stays on its side of it."""
    _hold(builder)
    flushing, usual = (_FLUSHING_ARM, FPCR) if IS_ARM else (_FLUSHING_X86, MXCSR)
    write_word(builder, constant(flushing if on else usual))
    _hold(builder)


def _hold(builder: ir.IRBuilder) -> None:
    # To the compiler arithmetic knows no mode; but it moves no load or store over this, which costs nothing.
    builder.fence("seq_cst", "singlethread")
