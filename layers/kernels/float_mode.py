"""How this thread's processor rounds: to the nearest, and numbers below the smallest normal one are kept.

A library built for "fast" arithmetic may set other modes for the thread that loads it. Flushing small numbers
to zero would save little and cost the promise: x86 decides after rounding what is small, Arm before.
"""

import platform
from functools import lru_cache

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from layers.kernels.jit import native

MXCSR = 0x1F80  # round to nearest, no exception interrupts, no flush to zero, subnormal inputs as they are
FPCR = 0  # the same on Arm
# The machine that runs this, not the target of kernels: Arm's tiles are tried on x86 too.
IS_ARM = platform.machine().lower() in ("aarch64", "arm64")


def set_float_mode(x86: int = MXCSR, arm: int = FPCR) -> None:
    """Make the calling thread compute as IEEE 754 says, or by other control words."""
    _set()(arm if IS_ARM else x86)


@lru_cache(maxsize=1)
def _set():
    @native(types.void(types.int64))
    def set_mode(word):
        _write(word)

    return set_mode


@intrinsic
def _write(typing_context, word):
    def codegen(_context, builder, _signature, arguments):
        write_word(builder, arguments[0])

    return types.void(types.int64), codegen


def write_word(builder: ir.IRBuilder, word: ir.Value) -> None:
    """Emit the change of the running thread's control word to an int64."""
    if IS_ARM:
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
        write = cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.set.fpcr")
        builder.call(write, [word])
        return
    byte, word32 = ir.IntType(8).as_pointer(), ir.IntType(32)
    place = cgutils.alloca_once(builder, word32)
    builder.store(builder.trunc(word, word32), place)
    kind = ir.FunctionType(ir.VoidType(), [byte])
    write = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.ldmxcsr")
    builder.call(write, [builder.bitcast(place, byte)])
