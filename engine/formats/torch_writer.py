"""The content of a file that ``torch.load`` reads: a state dict, written without torch."""

import io
import zipfile
from collections.abc import Iterable, Mapping
from itertools import accumulate
from struct import pack

from layers.layer import Array, Shape

_FOLDER = "archive"
_ALIGNMENT = 64  # of storages in the file, so that torch can map them into memory
_LOCAL_HEADER = 30  # bytes of a zip file's header of an entry, without its name and padding
_PADDING = b"FB"  # as torch calls the field of a header that fills it up


def torch_bytes(tensors: Mapping[str, Array]) -> bytes:
    """Return the content of a .pth file with float32 tensors by name, in their order.

    ``torch.load`` reads it with ``weights_only=True`` too. Equal tensors give equal bytes.
    """
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        _add(archive, written, "data.pkl", _pickled(tensors))
        _add(archive, written, "byteorder", b"little")
        for key, tensor in enumerate(tensors.values()):
            _add(archive, written, f"data/{key}", tensor.astype("<f4", copy=False).tobytes())
        _add(archive, written, "version", b"3\n")
    return written.getvalue()


def _add(archive: zipfile.ZipFile, written: io.BytesIO, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(f"{_FOLDER}/{name}")  # dated 1980, as there is no need to know when
    begin = written.tell() + _LOCAL_HEADER + len(entry.filename) + 4
    padding = -begin % _ALIGNMENT
    entry.extra = pack("<2sH", _PADDING, padding) + b"Z" * padding
    archive.writestr(entry, content)


def _pickled(tensors: Mapping[str, Array]) -> bytes:
    """Return the instructions that make an OrderedDict of the tensors; pickle's protocol 2."""
    entries = (_text(name) + _tensor(key, tensor) for key, (name, tensor) in enumerate(tensors.items()))
    return b"\x80\x02" + _ORDERED_DICT + b"(" + b"".join(entries) + b"u."


def _tensor(key: int, tensor: Array) -> bytes:
    described = (_text("storage"), _name("torch", "FloatStorage"), _text(str(key)), _text("cpu"))
    storage = _tuple((*described, _number(tensor.size))) + b"Q"
    shape, strides = _numbers(tensor.shape), _numbers(_strides(tensor.shape))
    needs_gradient = b"\x89"
    arguments = (storage, _number(0), shape, strides, needs_gradient, _ORDERED_DICT)
    return _name("torch._utils", "_rebuild_tensor_v2") + _tuple(arguments) + b"R"


def _strides(shape: Shape) -> Shape:
    """Return the steps, in values, along the axes of a contiguous tensor."""
    return tuple(accumulate(shape[:0:-1], lambda step, extent: step * extent, initial=1))[::-1][: len(shape)]


def _name(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    content = text.encode()
    return b"X" + pack("<I", len(content)) + content


def _number(value: int) -> bytes:
    if value < 2**31:
        return b"J" + pack("<i", value)
    return b"\x8a\x08" + pack("<q", value)


def _numbers(values: Iterable[int]) -> bytes:
    return _tuple(map(_number, values))


def _tuple(entries: Iterable[bytes]) -> bytes:
    return b"(" + b"".join(entries) + b"t"


_ORDERED_DICT = _name("collections", "OrderedDict") + b")R"
