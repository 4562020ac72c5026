"""Values that numba knows at compile time, and that a kernel hands on like any argument.

An integer inside a tuple is no literal to numba. A frozen `CompileTime`, in a kernel's closure or at the top
of its module, has a type of its own for each value: its attributes are literals, what an intrinsic generates
from it may differ, and a helper that takes one is compiled for each.
"""

from typing import Any

from numba import types
from numba.core.datamodel.models import OpaqueModel
from numba.core.imputils import lower_constant, lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import register_model, typeof_impl


class CompileTime:
    """Base of frozen dataclasses whose attributes are integers or such objects; the repr shows them all."""


class CompileTimeType(types.Opaque):
    """The type of one value, and of no other."""

    def __init__(self, value: CompileTime):
        self.value = value
        super().__init__(name=repr(value))


register_model(CompileTimeType)(OpaqueModel)


@typeof_impl.register(CompileTime)
def _typeof(value: CompileTime, _context: Any) -> CompileTimeType:
    return CompileTimeType(value)


@lower_constant(CompileTimeType)
def _nothing_at_run_time(context: Any, _builder: Any, _kind: Any, _value: Any) -> Any:
    return context.get_dummy_value()


@infer_getattr
class _Attributes(AttributeTemplate):
    key = CompileTimeType

    def generic_resolve(self, value: Any, attr: str) -> Any:  # type: ignore[override]
        found = getattr(value.value, attr)
        return CompileTimeType(found) if isinstance(found, CompileTime) else types.literal(int(found))


@lower_getattr_generic(CompileTimeType)
def _attribute(context: Any, _builder: Any, kind: CompileTimeType, _value: Any, name: str) -> Any:
    found = getattr(kind.value, name)
    if isinstance(found, CompileTime):
        return context.get_dummy_value()
    return context.get_constant(types.int64, int(found))
