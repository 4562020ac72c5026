"""Atomic operations on int64 words at an address, sequentially consistent, and the pause of a spin loop."""

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_WORD = ir.IntType(64)
_ORDER = "seq_cst"
_X86 = llvm.get_process_triple().startswith(("x86_64", "i386", "i686"))


def _pointer(builder, address):
    return builder.inttoptr(address, _WORD.as_pointer())


@intrinsic
def load(typing_context, address):
    """Return the word at an address."""

    def codegen(_context, builder, _signature, arguments):
        return builder.load_atomic(_pointer(builder, arguments[0]), _ORDER, 8)

    return types.int64(types.int64), codegen


@intrinsic
def store(typing_context, address, value):
    """Write a word."""

    def codegen(context, builder, _signature, arguments):
        builder.store_atomic(arguments[1], _pointer(builder, arguments[0]), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def add(typing_context, address, value):
    """Add to a word and return what it was."""

    def codegen(_context, builder, _signature, arguments):
        return builder.atomic_rmw("add", _pointer(builder, arguments[0]), arguments[1], _ORDER)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def replace(typing_context, address, expected, value):
    """Write a word if it is as expected, and return whether it was."""

    def codegen(_context, builder, _signature, arguments):
        pointer = _pointer(builder, arguments[0])
        done = builder.cmpxchg(pointer, arguments[1], arguments[2], _ORDER, _ORDER)
        return builder.extract_value(done, 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@intrinsic
def pause(typing_context):
    """Let the other hardware thread of the core work, where there is one."""

    def codegen(context, builder, _signature, _arguments):
        if _X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def let_others_run(typing_context):
    """Give the core to another thread that is ready to run, where there is one (POSIX sched_yield)."""

    def codegen(context, builder, _signature, _arguments):
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def sleep(typing_context, microseconds):
    """Sleep at least this long (POSIX usleep)."""

    def codegen(context, builder, _signature, arguments):
        unsigned = ir.IntType(32)
        kind = ir.FunctionType(unsigned, [unsigned])
        usleep = cgutils.get_or_insert_function(builder.module, kind, "usleep")
        builder.call(usleep, [builder.trunc(arguments[0], unsigned)])
        return context.get_dummy_value()

    return types.void(types.int64), codegen
