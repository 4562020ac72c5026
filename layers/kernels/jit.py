"""The decorators that compile kernels, and the cache of their machine code.

A kernel is a serial function over a range of tasks, ``kernel(worker, first, last, ...)``: it releases
the GIL, and `layers.kernels.threads.Threads` runs it on several workers at once.
"""

import hashlib
import platform
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import llvmlite
import numba
import numpy as np
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.extending import lower_builtin

from layers import arithmetic
from layers.kernels.cache_folder import base_folder, make_version, note_use
from layers.kernels.shared_cache import SharedCache, note_miss, warn_once
from layers.kernels.target import TARGET

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}  # C calls none
_SOURCES = sorted([*Path(__file__).parent.glob("*.py"), Path(arithmetic.__file__)])


def _source_digest() -> str:
    digest = hashlib.sha256()
    for source in _SOURCES:
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


def fingerprint() -> dict[str, str]:
    """Return the facts that must be equal on all hosts of a run for the same bits."""
    return {
        "kernel sources": _source_digest()[:16],
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "numpy": np.__version__,
    }


@lru_cache(maxsize=1)
def cache_folder() -> Path | None:
    """Return a folder whose name changes with the kernels' sources, numba and the CPU; None without any.

    numba looks at the time stamp of the file that defines a function only, not at the files whose
    functions it calls.
    """
    base = base_folder()
    if base is None:
        warn_once("unusable", "has no folder: kernels are compiled at every start; set NUMBA_CACHE_DIR")
        return None
    digest = hashlib.sha256(_source_digest().encode())
    for part in (numba.__version__, TARGET.cpu, TARGET.features):
        digest.update(part.encode() + b"\0")
    folder = base / digest.hexdigest()[:16]
    note_use(folder)
    return folder


def _about() -> dict[str, str]:
    return {"python": platform.python_version(), "numba": numba.__version__, "cpu": TARGET.cpu}


def kernel(*signature: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Compile a kernel for one signature, at the first call of the factory that holds it.

    No fastmath: the compiler neither reassociates a sum nor fuses a multiply with an add where it
    pleases (it might in a vector loop but not in its remainder). The register tile asks for its
    fused multiply-adds by name.
    """
    return native(numba.void(*signature))


def native(signature: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile any function for one signature, which names its result; it releases the GIL."""

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        dispatcher = lazy(function)
        with global_compiler_lock:
            dispatcher.compile(signature)
            # At once: variants of a kernel that several processes have cached may bear one name, and LLVM
            # finds the one that was loaded last.
            (code,) = dispatcher.overloads.values()
            dispatcher.address = code.library.get_pointer_to_function(code.fndesc.llvm_func_name)
        dispatcher.disable_compile()
        return cast(Callable[..., Any], dispatcher)

    return compiled


class _Helper(CPUDispatcher):
    """A function that only compiled code calls: without the wrapper for Python it compiles faster."""

    def __call__(self, *_arguments: Any) -> None:
        """Raise TypeError: without a wrapper there is nothing to call."""
        raise TypeError(f"{self.py_func.__qualname__} is a helper of kernels; @lazy lets Python call it too")


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a helper of kernels, when the first of them is compiled."""
    options = {**_OPTIONS, "nopython": True, "no_cpython_wrapper": True}
    return cast(Callable[..., Any], _cached(_Helper(function, locals={}, targetoptions=options)))


def lazy(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, and kernels may call too, at its first call."""
    return _cached(numba.njit(**_OPTIONS)(function))


def _cached(dispatcher: Any) -> Any:
    folder = cache_folder()
    if folder is None:
        note_miss()
    else:
        with suppress(OSError):  # a function without a source file
            # cache=True would set numba's own cache
            dispatcher._cache = SharedCache(
                dispatcher.py_func, folder, lambda: make_version(folder, _about())
            )
    return dispatcher


@infer_global(arithmetic.ceil_div)
class _CeilDiv(ConcreteTemplate):
    """`ceil_div` in kernels. By hand, as numba would compile it anew for each kernel that calls it."""

    key = arithmetic.ceil_div
    cases = (numba.int64(numba.int64, numba.int64),)


@lower_builtin(arithmetic.ceil_div, numba.int64, numba.int64)
def _ceil_div(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
    a, b = arguments
    return builder.sdiv(builder.sub(builder.add(a, b), b.type(1)), b)


def address(kernel: Any) -> int:
    """Return the address of a kernel's machine code, which follows numba's calling convention."""
    return int(kernel.address)
