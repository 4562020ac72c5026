"""Jobs: kernel calls that several threads share without the GIL.

The threads of a rank share one *board*, an int64 array. The caller posts a job on it and opens it; every
thread, the caller too, takes ranges of tasks until none is left. The caller then closes the board and waits
for those that still are at work, so that nobody holds on to a job when `finish` returns. A thread that comes
late finds the board closed, or no task left.

A worker looks at the board for a while after its last job, and then falls asleep. `post` marks who is asleep;
the caller wakes those. Both sides write first and then look (the worker that it sleeps and for an open board,
`post` that the board is open and for sleepers), so no worker sleeps through a job.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import int64, types
from numba.core import cgutils
from numba.extending import intrinsic

from layers.kernels import atomics
from layers.kernels.jit import inline, lazy, native

LINE = 8  # words of a cache line: what different threads write lies on different lines
STATE, TASKS, SHARES, KERNEL, CALL = range(5)  # written by the caller only
NEXT, BUSY, FAILED = LINE, 2 * LINE, 3 * LINE
ARGUMENTS, ARGUMENT_WORDS = 4 * LINE, 512
WORKERS = ARGUMENTS + ARGUMENT_WORDS  # one line each: AWAKE, ASLEEP or CALLED

CLOSED, OPEN, ENDED = range(3)
AWAKE, ASLEEP, CALLED = range(3)

SPLITS = 2  # a range is 1 / (SPLITS * threads) of the tasks left: large ones first, single tasks last
LOOKS, YIELDS = 2000, 200  # looks for busy workers: first spinning, then yielding the core, then napping
NAP_US = 50


def new_board(threads: int) -> np.ndarray:
    """Return a closed board, its start on a cache line."""
    words = WORKERS + threads * LINE
    raw = np.zeros(words + LINE, np.int64)
    start = -raw.ctypes.data // 8 % LINE
    return raw[start : start + words]


@lru_cache
def poster(arguments: tuple[Any, ...]) -> Any:
    """Return ``post(board, kernel, tasks, threads, arguments)`` for kernels with these types of arguments.

    It opens the board to a job, and returns the number of workers to wake: those marked CALLED.
    `board` and `kernel` are addresses. The arrays must outlive the job.
    """

    @native(int64(int64, int64, int64, int64, types.BaseTuple.from_types(arguments)))
    def post(board, kernel, tasks, threads, arguments):
        call = write_arguments(board + 8 * ARGUMENTS, arguments)
        return open_board(board, kernel, call, tasks, threads)

    return post


@inline
def open_board(board, kernel, call, tasks, threads):
    """Publish a job, mark sleeping workers as called, and return their number."""
    atomics.store(board + 8 * KERNEL, kernel)
    atomics.store(board + 8 * CALL, call)
    atomics.store(board + 8 * TASKS, tasks)
    atomics.store(board + 8 * SHARES, SPLITS * threads)
    atomics.store(board + 8 * NEXT, 0)
    atomics.store(board + 8 * STATE, OPEN)
    return call_sleepers(board, threads)


@inline
def call_sleepers(board, threads):
    """Mark sleeping workers as called, and return their number."""
    called = 0
    for worker in range(1, threads):
        called += atomics.replace(board + 8 * (WORKERS + worker * LINE), ASLEEP, CALLED)
    return called


@lazy
def finish(board):
    """Take part in the job as worker 0 until it is done; return 0, or the status of a failed task."""
    work(board, 0)
    atomics.store(board + 8 * STATE, CLOSED)
    looks = 0
    while atomics.load(board + 8 * BUSY) != 0:
        looks += 1
        if looks < LOOKS:
            atomics.pause()
        elif looks < LOOKS + YIELDS:
            atomics.let_others_run()
        else:  # a worker waits for a core, perhaps this one
            atomics.sleep(NAP_US)
    failed = atomics.load(board + 8 * FAILED)
    atomics.store(board + 8 * FAILED, 0)
    return failed


@lazy
def end(board, threads):
    """End the board so that all workers leave; return the number of workers to wake for it."""
    atomics.store(board + 8 * STATE, ENDED)
    return call_sleepers(board, threads)


@lazy
def serve(board, worker, looks):
    """Take part in jobs until `looks` looks at the board have found none; the worker is then asleep.

    Returns
    -------
    bool
        False when the board has been ended.
    """
    sleeping = board + 8 * (WORKERS + worker * LINE)
    atomics.store(sleeping, AWAKE)
    left = looks
    while True:
        state = atomics.load(board + 8 * STATE)
        if state == ENDED:
            return False
        if state == OPEN and atomics.load(board + 8 * NEXT) < atomics.load(board + 8 * TASKS):
            atomics.add(board + 8 * BUSY, 1)
            if atomics.load(board + 8 * STATE) == OPEN:  # else the caller may already write the next job
                work(board, worker)
            atomics.add(board + 8 * BUSY, -1)
            left = looks
        elif left > 0:
            left -= 1
            if left % 16 == 0:
                atomics.let_others_run()
            atomics.pause()
        else:
            atomics.store(sleeping, ASLEEP)
            # A worker that the caller has called meanwhile will also be woken, so it must go to sleep first.
            posted = atomics.load(board + 8 * STATE) != CLOSED
            if not posted or not atomics.replace(sleeping, ASLEEP, AWAKE):
                return True
            left = max(1, looks)


@inline
def work(board, worker):
    """Do ranges of tasks until none is left."""
    tasks, shares = atomics.load(board + 8 * TASKS), atomics.load(board + 8 * SHARES)
    kernel, call = atomics.load(board + 8 * KERNEL), atomics.load(board + 8 * CALL)
    while True:
        first = atomics.load(board + 8 * NEXT)
        if first >= tasks:
            return
        last = first + max(1, (tasks - first) // shares)
        if atomics.replace(board + 8 * NEXT, first, last):
            failed = call_kernel(call, kernel, board + 8 * ARGUMENTS, worker, first, last)
            if failed != 0:
                atomics.store(board + 8 * FAILED, failed)


_WORD = ir.IntType(64)
_CALL = ir.FunctionType(_WORD, [_WORD] * 5)


@intrinsic
def write_arguments(typing_context, address, arguments):
    """Write a tuple to an address; return the address of a function that calls a kernel with it."""
    signature = types.int64(types.int64, arguments)

    def codegen(context, builder, signature, values):
        kinds = signature.args[1]
        stored = context.get_value_type(kinds)
        assert context.get_abi_sizeof(stored) <= 8 * ARGUMENT_WORDS
        borrowed = _borrowed(context, builder, kinds, values[1])
        builder.store(borrowed, builder.inttoptr(values[0], stored.as_pointer()))
        return builder.ptrtoint(_caller(context, builder.module, kinds, stored), _WORD)

    return signature, codegen


def _borrowed(context, builder, kind, value):
    """Return a value without its owners: a worker must not count references to what the caller holds."""
    if isinstance(kind, types.BaseTuple):
        parts = cgutils.unpack_tuple(builder, value, len(kind))
        parts = [_borrowed(context, builder, *part) for part in zip(kind, parts, strict=True)]
        return context.make_tuple(builder, kind, parts)
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        for owner in ("meminfo", "parent"):
            setattr(array, owner, cgutils.get_null_value(getattr(array, owner).type))
        return array._getvalue()
    return value


def _caller(context, module, kinds, stored):
    """Emit ``call(kernel, arguments, worker, first, last)``, which returns 0 or the status of a failure."""
    function = ir.Function(module, _CALL, module.get_unique_name("call_kernel"))
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block())
    kernel, address, *task_range = function.args
    values = builder.load(builder.inttoptr(address, stored.as_pointer()))
    argument_types = (types.int64,) * 3 + tuple(kinds)
    pointed = context.call_conv.get_function_type(types.none, argument_types).as_pointer()
    status, _ = context.call_conv.call_function(
        builder, builder.inttoptr(kernel, pointed), types.none, argument_types,
        [*task_range, *cgutils.unpack_tuple(builder, values, len(kinds))],
    )  # fmt: skip
    code = builder.sext(status.code, _WORD)
    builder.ret(builder.select(status.is_error, code, ir.Constant(_WORD, 0)))
    return function


@intrinsic
def call_kernel(typing_context, call, kernel, arguments, worker, first, last):
    """Call the function that `write_arguments` has made."""

    def codegen(_context, builder, _signature, values):
        return builder.call(builder.inttoptr(values[0], _CALL.as_pointer()), values[1:])

    return types.int64(*[types.int64] * 6), codegen
