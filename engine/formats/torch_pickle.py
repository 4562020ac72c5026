"""The pickle inside a file of ``torch.save``, read without executing anything.

A pickle is a program for a stack machine. Here is one that knows the instructions a state dict is made of,
and makes dicts, lists, tuples, plain values and `TensorEntry`: a name of a class or function is never
looked up, and whatever is none of those that a state dict needs is refused by its name.
"""

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from engine.config.wording import shortened
from layers.layer import Shape

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
"""Types of values by torch's classes of storages."""
STORAGE_BYTES = {kind: 2 if kind == "bfloat16" else np.dtype(kind).itemsize for kind in STORAGES.values()}
"""Bytes of a value by its type."""

_ORDERED_DICT = "collections.OrderedDict"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_SIZE = "torch.Size"
_KNOWN = {_ORDERED_DICT, _TENSOR, _PARAMETER, _SIZE, *(f"torch.{name}" for name in STORAGES)}

_KEYS = (str, int, float, bool, type(None))
_MARK = object()


@dataclass(frozen=True)
class StorageEntry:
    """A run of values, which lies by itself in the file."""

    key: str
    kind: str
    size: int


@dataclass(frozen=True)
class TensorEntry:
    """A tensor: a view of a storage, by the place of its first value and the steps along its axes."""

    storage: StorageEntry
    first: int
    shape: Shape
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    """A class or function that the pickle names; it is only compared with what is known."""

    text: str


class PickleError(Exception):
    """The pickle is damaged, or no state dict; the message says in what way."""


def read_pickle(content: bytes | IO[bytes], storages: dict[str, StorageEntry] | None = None) -> Any:
    """Return what a pickle holds; of an open file what begins at its place, which is then behind it.

    Parameters
    ----------
    storages
        Gets all storages that the pickle names, by their keys.

    Raises
    ------
    PickleError
        It is damaged, or holds something else than tensors and plain values.
    """
    machine = _Machine({} if storages is None else storages)
    try:
        for instruction, argument, _ in pickletools.genops(content):
            machine.run(instruction.name, argument)
        return machine.pop()
    except PickleError:
        raise
    except (ValueError, IndexError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise PickleError(f"its pickle is damaged: {type(error).__name__}: {shortened(error)}") from error


class _Machine:
    """The stack, and the memo of what has been made."""

    def __init__(self, storages: dict[str, StorageEntry]) -> None:
        self._stack: list[Any] = []
        self._storages = storages
        self._memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        """Run one instruction."""
        if name in _NOTHING:
            return
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            self._stack.append(argument)
        elif name in _WORK:
            _WORK[name](self, argument)
        else:
            raise PickleError(f"its pickle has the instruction {name}, which no state dict needs")

    def pop(self) -> Any:
        """Take the value on top."""
        value = self._stack.pop()
        if value is _MARK:
            raise IndexError("a mark where a value should be")
        return value

    def top(self, kind: type) -> Any:
        """Return the value on top, which must be of this type."""
        value = self._stack[-1]
        if type(value) is not kind:
            raise TypeError(f"{type(value).__name__} where {kind.__name__} should be")
        return value

    def since_mark(self) -> list[Any]:
        """Take the values above the last mark, and the mark."""
        values = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def put(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def memoize(self, _: Any) -> None:
        self.put(len(self._memo))

    def get(self, place: int) -> None:
        self._stack.append(self._memo[place])

    def mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def make_tuple(self, _: Any) -> None:
        self._stack.append(tuple(self.since_mark()))

    def make_short_tuple(self, length: int) -> None:
        values = [self.pop() for _ in range(length)]
        self._stack.append(tuple(values[::-1]))

    def set_items(self, _: Any) -> None:
        values = self.since_mark()
        _fill(self.top(dict), values)

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        _fill(self.top(dict), [key, value])

    def append_all(self, _: Any) -> None:
        values = self.since_mark()
        self.top(list).extend(values)

    def append(self, _: Any) -> None:
        value = self.pop()
        self.top(list).append(value)

    def name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._push_name(f"{module}.{name}")

    def name_from_stack(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        self._push_name(f"{module}.{name}")

    def _push_name(self, text: str) -> None:
        if text not in _KNOWN:
            raise PickleError(
                f"it holds {shortened(text)}, which is not read, as nothing in a file is executed; save the "
                "state_dict alone: torch.save(model.state_dict(), FILE)"
            )
        self._stack.append(_Name(text))

    def storage(self, _: Any) -> None:
        """Make the storage that a tuple describes: its word, type, key, place and number of values.

        Before torch 1.6 there may be a sixth, which is None unless it is a part of another storage.
        """
        word, kind, key, _, size, *part = self.pop()
        described = (
            isinstance(kind, _Name) and type(key) is str and type(size) is int and part in ([], [None])
        )
        if word != "storage" or not described:
            raise TypeError("a storage is described in another way")
        entry = StorageEntry(key, STORAGES[kind.text.removeprefix("torch.")], size)
        if self._storages.setdefault(key, entry) != entry:
            raise ValueError(f"the storage {key} is described in two ways")
        self._stack.append(entry)

    def call(self, _: Any) -> None:
        """Make what a call of one of the known names would make."""
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Name) or type(arguments) is not tuple:
            raise TypeError("a call of something that is no name")
        self._stack.append(_CALLS[function.text](*arguments))

    def build(self, _: Any) -> None:
        """Drop what is attached to a dict: versions of modules, which no tensor depends on."""
        self.pop()
        self.top(dict)


def _fill(target: dict[Any, Any], pairs: list[Any]) -> None:
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        if type(key) not in _KEYS:  # the hash of a nested tuple has no bound
            raise TypeError(f"{type(key).__name__} as a key")
        target[key] = value


def _tensor(storage: Any, first: Any, shape: Any, strides: Any, *_: Any) -> TensorEntry:
    numbers = (first, *shape, *strides)
    if not isinstance(storage, StorageEntry) or not all(type(each) is int and each >= 0 for each in numbers):
        raise TypeError("a tensor is described in another way")
    if len(shape) != len(strides) or len(shape) > 32:
        raise ValueError(f"a tensor of {len(shape)} axes with {len(strides)} strides")
    elements = math.prod(shape)
    last = first + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))
    if elements > storage.size or (elements and last >= storage.size):
        raise ValueError(f"a tensor {list(shape)} of a storage with {storage.size} values")
    return TensorEntry(storage, first, tuple(shape), tuple(strides))


def _parameter(tensor: Any, *_: Any) -> TensorEntry:
    if not isinstance(tensor, TensorEntry):
        raise TypeError("a parameter that is no tensor")
    return tensor


_CALLS: dict[str, Callable[..., Any]] = {
    _ORDERED_DICT: lambda: {},  # its entries are set one by one
    _TENSOR: _tensor,
    _PARAMETER: _parameter,
    _SIZE: tuple,
}
_NOTHING = {"PROTO", "FRAME", "STOP"}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8",
}  # fmt: skip
_WORK: dict[str, Callable[[_Machine, Any], None]] = {
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "MARK": _Machine.mark,
    "TUPLE": _Machine.make_tuple,
    "TUPLE1": lambda machine, _: machine.make_short_tuple(1),
    "TUPLE2": lambda machine, _: machine.make_short_tuple(2),
    "TUPLE3": lambda machine, _: machine.make_short_tuple(3),
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.append_all,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name_from_stack,
    "BINPERSID": _Machine.storage,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
}
