"""Load cached machine code without what only compiling needs: numba's libraries, and the bitcode.

numba itself first imports all that it can compile, and then parses each function's bitcode, for a caller that
might be compiled against it: most of a warm start. Both come later here, if ever.
"""

from typing import Any

import llvmlite.binding as llvm
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompileResult
from numba.core.runtime import _nrt_python as runtime  # type: ignore[attr-defined]


def rebuild(context: Any, library: Any, description: Any, environment: Any, *rest: Any) -> Any:
    """Return a compiled function of what `CompileResult._reduce` returned; see `CompileResult._rebuild`."""
    signature, objectmode, lifted, annotation, reload_init, referenced = rest
    for call in reload_init:
        call()
    _offer_runtime()
    name, kind, (code, bitcode) = library
    assert kind == "object"
    both = description.llvm_func_name, description.llvm_cpython_wrapper_name
    names = tuple(each for each in both if each.encode() in code)  # helpers of kernels have no wrapper
    loaded = _Library(context.codegen(), name, code, bitcode, names)
    entry = context.get_executable(loaded, description, environment)
    for each in referenced:
        loaded.codegen.set_env(each.env_name, each)
    result: Any = CompileResult  # whose fields mypy does not see
    return result(
        typing_context=context.typing_context,
        target_context=context,
        entry_point=entry,
        typing_error=None,
        type_annotation=annotation,
        signature=signature,
        objectmode=objectmode,
        lifted=lifted,
        fndesc=description,
        library=loaded,
        call_helper=None,
        environment=environment,
        metadata=None,
        reload_init=reload_init,
        referenced_envs=referenced,
    )


class _Library(JITCodeLibrary):
    """Machine code in memory, with bitcode that is parsed for the first function compiled against it."""

    def __init__(self, codegen: Any, name: str, code: bytes, bitcode: bytes, names: tuple[str, ...]):
        super().__init__(codegen, name)
        self._bitcode = bitcode
        self.enable_object_caching()
        self._set_compiled_object(code)
        self._finalize_final_module()
        codegen._engine._defined_symbols.update(names)

    def _get_module_for_linking(self) -> Any:
        if self._shared_module is None:
            self._shared_module = llvm.parse_bitcode(self._bitcode)
            self._codegen._engine._load_defined_symbols(self._shared_module)
        return self._shared_module


def _offer_runtime() -> None:
    """Let machine code find the functions of numba's runtime, written in C."""
    for name, place in runtime.c_helpers.items():
        llvm.add_symbol(name if name.startswith("_") else f"NRT_{name}", place)
