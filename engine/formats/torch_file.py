"""Files of ``torch.save``: read without executing anything in them, and written, both without torch.

Since torch 1.6 it is a zip archive, not compressed, of a pickle and one file a storage, which is what is
written here; before, it was pickles with the storages behind them.
"""

import struct
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Any

import numpy as np

from engine.config.errors import UserError
from engine.config.files import open_file, reading
from engine.config.wording import shortened
from engine.formats.float_types import BYTES, as_float32
from engine.formats.torch_pickle import STORAGE_BYTES, PickleError, StorageEntry, TensorEntry, read_pickle
from layers.layer import Array

_NESTED = ("state_dict", "model_state_dict", "model")
"""Entries in which checkpoints of training programs have the state dict."""
_COPIED = "module."
"""What DataParallel and DistributedDataParallel put before each name."""
_COUNTER = "num_batches_tracked"
"""Of a BatchNorm, which counts steps for its training: a whole number, and no weight."""

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
"""What a file before torch 1.6 begins with."""
_COUNT_BYTES = 8
"""Of the number of values before each storage there."""

_DAMAGED = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    struct.error,
    ValueError,
    KeyError,
    OverflowError,
    TypeError,
)
"""What is raised for damaged files."""


def read_torch(path: Path) -> dict[str, Array]:
    """Return the tensors of a state dict, as float32, in the order of the file; they may be read-only.

    float64, float16 and bfloat16 are converted. A state dict inside a checkpoint's "state_dict",
    "model_state_dict" or "model" is found, and "module." before all names is taken off.

    Raises
    ------
    UserError
        It cannot be read, is damaged or in a format before torch 0.1.10, or holds anything but tensors of
        floating point and plain values; nothing in it is executed.
    """
    with reading(path):
        begin = _beginning(path)
        try:
            if begin.startswith(b"PK"):
                with zipfile.ZipFile(path) as archive:
                    return _Archive(path, archive).tensors()
            if begin.startswith(b"\x80"):
                with open_file(path) as file:
                    return _Stream(path, file).tensors()
            raise UserError(f"{path}: {_neither(begin)}; a file of torch.save is wanted")
        except _DAMAGED as error:
            if isinstance(error, UserError):
                raise
            said = error.args[0] if error.args else type(error).__name__
            raise UserError(f"{path}: is cut or damaged: {shortened(said)}") from error


class _StateDict(ABC):
    """The tensors of a file, whatever lies where in it."""

    def __init__(self, path: Path):
        self._path = path
        self._storages: dict[StorageEntry, Array] = {}

    @abstractmethod
    def _root(self) -> Any:
        """Return what was saved."""

    @abstractmethod
    def _content(self, storage: StorageEntry) -> bytes:
        """Return the values of a storage."""

    def tensors(self) -> dict[str, Array]:
        """Return the tensors by name."""
        try:
            root = self._root()
        except PickleError as error:
            raise UserError(f"{self._path}: {error}") from error
        entries = {name: each for name, each in self._state_dict(root).items() if not _is_counter(name, each)}
        for name, entry in entries.items():
            if type(name) is not str or not isinstance(entry, TensorEntry):
                raise UserError(
                    f"{self._path}: holds {type(entry).__name__} for {shortened(name)}; a state dict holds "
                    "tensors only"
                )
            if entry.storage.kind not in BYTES:
                raise UserError(
                    f"{self._path}: holds {shortened(name)} as {entry.storage.kind}; must be one of "
                    f"{', '.join(BYTES)}"
                )
        copied = all(name.startswith(_COPIED) for name in entries)
        return {
            name.removeprefix(_COPIED) if copied else name: self._tensor(entry)
            for name, entry in entries.items()
        }

    def _state_dict(self, root: Any) -> dict[Any, Any]:
        if type(root) is not dict:
            raise UserError(f"{self._path}: holds {type(root).__name__}; must be a state dict")
        if not any(isinstance(each, TensorEntry) for each in root.values()):
            for name in _NESTED:
                if type(root.get(name)) is dict:
                    return self._state_dict(root[name])
            listed = ", ".join(shortened(name, 40) for name in list(root)[:8]) or "nothing"
            raise UserError(
                f"{self._path}: has no state dict: it holds {listed}; must be tensors by name, also inside "
                f"{' or '.join(_NESTED)}"
            )
        for name in _NESTED:  # tensors beside it are those of the training program
            if type(root.get(name)) is dict:
                return self._state_dict(root[name])
        return root

    def _tensor(self, entry: TensorEntry) -> Array:
        values = self._storage(entry.storage)
        if not values.size:
            return np.zeros(entry.shape, np.float32)
        strides = tuple(stride * values.itemsize for stride in entry.strides)
        view = np.lib.stride_tricks.as_strided(values[entry.first :], entry.shape, strides, writeable=False)
        return np.ascontiguousarray(view).reshape(entry.shape)

    def _storage(self, storage: StorageEntry) -> Array:
        if storage not in self._storages:
            content, wanted = self._content(storage), storage.size * BYTES[storage.kind]
            if len(content) != wanted:
                raise ValueError(f"data/{storage.key} has {len(content)} bytes, not {wanted}")
            self._storages[storage] = as_float32(content, storage.kind, (storage.size,))
        return self._storages[storage]


class _Archive(_StateDict):
    """A zip file: a pickle and a file for each storage, below one folder whose name says nothing."""

    def __init__(self, path: Path, archive: zipfile.ZipFile):
        super().__init__(path)
        self._archive = archive
        found = [name for name in archive.namelist() if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(found) != 1:
            raise UserError(f"{path}: is a zip file, but not one of torch.save: it has no data.pkl")
        self._folder = found[0].removesuffix("data.pkl")
        if f"{self._folder}constants.pkl" in archive.namelist():
            raise UserError(f"{path}: is a program of TorchScript; save its state_dict() with torch.save")
        order = self._read("byteorder") if f"{self._folder}byteorder" in archive.namelist() else b"little"
        if order.strip() != b"little":
            raise UserError(
                f"{path}: has the byte order {shortened(order.decode(errors='replace'), 20)}; must be little"
            )

    def _root(self) -> Any:
        return read_pickle(self._read("data.pkl"))

    def _content(self, storage: StorageEntry) -> bytes:
        return self._read(f"data/{storage.key}")

    def _read(self, name: str) -> bytes:
        described = self._archive.getinfo(self._folder + name)
        if described.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed, which torch.save never does")
        return self._archive.read(described)


class _Stream(_StateDict):
    """A file as torch wrote it before its version 1.6: pickles, and then all storages."""

    def __init__(self, path: Path, file: IO[bytes]):
        super().__init__(path)
        self._file = file
        self._places: dict[str, tuple[int, int]] = {}

    def _root(self) -> Any:
        """Return what was saved, and note the place and the bytes of each storage."""
        if read_pickle(self._file) != _MAGIC or read_pickle(self._file) != _VERSION:
            raise PickleError("is a pickle, but not one of torch.save")
        if not read_pickle(self._file)["little_endian"]:
            raise PickleError("has the byte order big; must be little")
        described: dict[str, StorageEntry] = {}
        root, keys = read_pickle(self._file, described), read_pickle(self._file)
        place = self._file.tell()
        for key in keys:
            self._file.seek(place)
            (values,) = struct.unpack("<q", self._file.read(_COUNT_BYTES))
            entry = described[key]
            if values != entry.size:
                raise ValueError(f"the storage {shortened(key)} has {values} values, not {entry.size}")
            self._places[key] = place + _COUNT_BYTES, values * STORAGE_BYTES[entry.kind]
            place += _COUNT_BYTES + values * STORAGE_BYTES[entry.kind]
        return root

    def _content(self, storage: StorageEntry) -> bytes:
        place, count = self._places[storage.key]
        self._file.seek(place)
        return self._file.read(count)


def _is_counter(name: Any, entry: Any) -> bool:
    return isinstance(name, str) and name.endswith(_COUNTER) and isinstance(entry, TensorEntry)


def _beginning(path: Path) -> bytes:
    with open_file(path) as file:
        return file.read(512)


def _neither(begin: bytes) -> str:
    if begin[257:262] == b"ustar":
        return "is a tar archive, as torch wrote before its version 0.1.10"
    return "is neither a zip file nor a pickle" if begin else "is empty"
