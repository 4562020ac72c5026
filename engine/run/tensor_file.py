"""Write a file of safetensors piece by piece, and sum each tensor, so that damage has a name.

The file's CRC-32 is taken as it is written. What it has come to behind the header, and behind each tensor, is
kept: that is a sum of the tensor too, continued from the one before it, for one pass over the bytes.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from zlib import crc32

import numpy as np

from engine.config.files import open_file
from engine.training.held import Tensors, made

Buffer = bytes | memoryview

HEADER = ""
"""Under this name is the sum of what stands before the tensors."""
_LENGTH = 8  # bytes of the header's own length
_ALIGNMENT = 8  # of the first tensor
PIECE = 1 << 22
"""Bytes that are summed and written at a time: they are summed while they are in cache."""


class TensorFile:
    """What a file of float32 tensors consists of; its sums are known when `content` has been consumed.

    The bytes are those of `safetensors.numpy.save`.
    """

    def __init__(self, tensors: Tensors, about: Mapping[str, str] | None = None):
        self._tensors = tensors
        self._about = dict(about or {})
        self.bytes = 0
        self.crc32 = 0
        self.sums: dict[str, int] = {}
        """CRC-32 of the file up to the end of the header, and of each tensor by name."""

    def content(self) -> Iterator[Buffer]:
        """Yield the bytes, a piece at a time, which is valid until the next one is asked for."""
        self.bytes = self.crc32 = 0
        yield self._counted(self._header())
        self.sums = {HEADER: self.crc32}
        for name in sorted(self._tensors):
            flat = np.ascontiguousarray(made(self._tensors[name]), "<f4").reshape(-1)
            if flat.size:  # a view of no bytes cannot be cast
                view = flat.view(np.uint8).data
                yield from (self._counted(view[at : at + PIECE]) for at in range(0, len(view), PIECE))
            self.sums[name] = self.crc32

    def _counted(self, piece: Buffer) -> Buffer:
        self.bytes, self.crc32 = self.bytes + len(piece), crc32(piece, self.crc32)
        return piece

    def _header(self) -> bytes:
        entries: dict[str, object] = {"__metadata__": self._about} if self._about else {}
        end = 0
        for name in sorted(self._tensors):
            shape = self._tensors[name].shape
            start, end = end, end + math.prod(shape) * 4
            entries[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
        text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        return len(text).to_bytes(_LENGTH, "little") + text


def damaged_tensors(path: Path, sums: Mapping[str, int]) -> list[str]:
    """Return the tensors of a file that are not what was written; [HEADER] where that is not.

    Raises
    ------
    OSError, ValueError
        It cannot be read, or is no such file.
    """
    with open_file(path) as file:
        length = file.read(_LENGTH)
        text = file.read(int.from_bytes(length, "little"))
        if crc32(text, crc32(length)) != sums.get(HEADER):
            return [HEADER]
        entries = json.loads(text)
        entries.pop("__metadata__", None)
        before, found = sums[HEADER], []
        for name, entry in entries.items():  # in the order of their bytes, which the header's sum vouches for
            start, end = entry["data_offsets"]
            if _sum(file.read, end - start, before) != sums.get(name):
                found.append(name)
            before = sums.get(name, 0)
    return found


def _sum(read: Callable[[int], bytes], count: int, before: int) -> int:
    """Continue a CRC-32 over the next `count` bytes of a file."""
    for left in range(count, 0, -PIECE):
        before = crc32(read(min(PIECE, left)), before)
    return before


def sum_of(pieces: Iterable[bytes]) -> dict[str, int]:
    """Return the length and the CRC-32 of some bytes, as a checkpoint's state keeps them of a file."""
    length = check = 0
    for piece in pieces:
        length, check = length + len(piece), crc32(piece, check)
    return {"bytes": length, "crc32": check}
