"""Files of safetensors: tensors by name, whoever wrote them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from engine.config.errors import UserError
from engine.config.files import read_bytes, reading
from engine.config.wording import shortened
from engine.formats.float_types import as_float32
from layers.layer import Array

_KINDS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def read_safetensors(path: Path) -> dict[str, Array]:
    """Return all tensors of a file as float32, which may be read-only; their order says nothing.

    Raises
    ------
    UserError
        It cannot be read, or holds a tensor that is not of floating point.
    """
    with reading(path):
        content = read_bytes(path)
    try:
        with _memory_for_it():
            entries = deserialize(content)  # type: ignore[no-untyped-call] # its stub has no types
    except SafetensorError as error:
        raise UserError(f"{path}: cannot be read as safetensors: {shortened(error, 200)}") from error
    tensors = {}
    for name, entry in entries:
        if entry["dtype"] not in _KINDS:
            raise UserError(
                f"{path}: holds {shortened(name)} as {entry['dtype']}; must be one of {', '.join(_KINDS)}"
            )
        tensors[name] = as_float32(entry["data"], _KINDS[entry["dtype"]], tuple(entry["shape"]))
    return tensors


def safetensors_bytes(tensors: Mapping[str, Array], about: Mapping[str, str]) -> bytes:
    """Return the content of a file with these tensors, and this metadata."""
    with _memory_for_it():
        return save(dict(tensors), {"format": "pt", **about})  # "pt": what PyTorch's programs ask for


@contextmanager
def _memory_for_it() -> Iterator[None]:
    """Raise MemoryError where safetensors panics, which is no Exception: it could make no object."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise MemoryError(f"safetensors: {error}") from error
        raise
