"""Read the weights of a trained network from whatever file holds them: names and arrays, nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from engine.config.errors import UserError
from engine.config.files import reading
from engine.config.wording import one_of
from layers.layer import Array

MODEL = "model.safetensors"
"""The file of a checkpoint's folder that holds the weights."""
_FLOATS = ("F16", "F32", "F64")
_TORCH = (".pth", ".pt")
_ENDINGS = (".safetensors", *_TORCH)


def read_weights(path: Path) -> dict[str, Array]:
    """Return the arrays of a file by name, as float32; those that are no floats are passed over.

    Parameters
    ----------
    path
        The folder of a checkpoint, a .safetensors, or a .pth or .pt of PyTorch, in which nothing is executed.

    Raises
    ------
    UserError
        There is no such file, or it is damaged or of another kind.
    """
    if path.is_dir():
        path = path / MODEL
    if path.suffix in _ENDINGS:
        with reading(path), path.open("rb"):
            pass
    if path.suffix in _TORCH:
        from engine.formats.torch_file import read_torch  # noqa: PLC0415 -- few runs need it

        found: dict[str, Array] = read_torch(path)
        return {name: _float32(array) for name, array in found.items() if array.dtype.kind == "f"}
    if path.suffix != ".safetensors":
        raise UserError(f'{path}: has the ending "{path.suffix}"; {one_of(_ENDINGS)}, or be a folder')
    with _opened(path) as file:
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 -- no mapping
        if "BF16" in kinds.values():  # numpy has no such type
            raise UserError(f"{path}: holds bfloat16; must be float16, float32 or float64")
        return {name: _float32(file.get_tensor(name)) for name, kind in kinds.items() if kind in _FLOATS}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, "numpy") as file:
            yield file
    except (OSError, SafetensorError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: cannot be read as safetensors: {error}") from error


def _float32(array: Any) -> Array:
    """Return an array of floats as float32; what is beyond it becomes infinite."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, np.float32)
