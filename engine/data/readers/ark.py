"""Kaldi's binary archives: matrices, of which any rows are read by themselves, and vectors of whole numbers.

The format is that of kaldi-asr.org/doc/io.html; compressed matrices are unpacked by kaldiio.
"""

from __future__ import annotations

import os
import struct
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.config.files import open_file, read_bytes
from engine.config.wording import shortened
from engine.data.dataset import DataError

BINARY = b"\0B"
"""What an object of an archive begins with, unless it is text."""
_HEADER_BYTES = len(BINARY) + 4 + 16  # at most
_ELEMENT_BYTES = {"FM": 4, "DM": 8, "CM": 1, "CM2": 2, "CM3": 1}
_COLUMN_HEADER_BYTES = 8  # of CM
_MOST_LABELS = 1 << 16
_ENTRY = np.dtype([("size", "u1"), ("value", "<i4")])  # of a vector


@dataclass(frozen=True)
class Matrix:
    """Where a matrix lies in an archive, and how: "FM", "DM" or, compressed, "CM", "CM2" or "CM3"."""

    form: str
    header: int
    """Place of the compressed forms' own header, or of the first element."""
    rows: int
    columns: int


class Ark:
    """An open archive. Several threads may read from it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_file(path) as file:
            self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)
        self._size = os.fstat(self._file).st_size

    def matrix(self, offset: int) -> Matrix:
        """Read the header of the matrix at a place.

        Raises
        ------
        DataError
            There is no binary matrix, or the file ends before it does.
        """
        start = os.pread(self._file, _HEADER_BYTES, offset)
        form = start[len(BINARY) :].split(b" ", 1)[0].decode("ascii", "replace")
        if not start.startswith(BINARY) or form not in _ELEMENT_BYTES:
            raise self._error(
                offset, "has no binary matrix of features; copy-feats ark:... ark,scp:... writes one"
            )
        place = len(BINARY) + len(form) + 1
        try:
            rows, columns = struct.unpack_from("<8xii" if _is_packed(form) else "<xixi", start, place)
        except struct.error:
            raise self._error(offset, "is cut short in the header of a matrix") from None
        if rows < 1 or columns < 1:
            raise self._error(offset, f"has a matrix of {rows} x {columns}; must be at least 1 x 1")
        found = Matrix(form, offset + place + (0 if _is_packed(form) else 10), rows, columns)
        if _first_element(found) + rows * columns * _ELEMENT_BYTES[form] > self._size:
            raise self._error(offset, f"is cut short: it has no {rows} x {columns} values")
        return found

    def rows(self, matrix: Matrix, first: int, last: int) -> NDArray[np.float32]:
        """Read rows of a matrix from `first` up to, without, `last`: float32 [last - first, columns]."""
        packed: NDArray[Any]
        width = matrix.columns * _ELEMENT_BYTES[matrix.form]
        if matrix.form == "CM":  # column by column
            content = self._read(_first_element(matrix), matrix.rows * width)
            packed = np.frombuffer(content, np.uint8).reshape(matrix.columns, matrix.rows)[:, first:last]
        else:
            content = self._read(_first_element(matrix) + first * width, (last - first) * width)
            kind = {"FM": "<f4", "DM": "<f8", "CM2": "<u2", "CM3": "u1"}[matrix.form]
            packed = np.frombuffer(content, kind).reshape(-1, matrix.columns)
        if _is_packed(matrix.form):
            return _unpacked(
                packed, self._read(matrix.header, _first_element(matrix) - matrix.header), matrix
            )
        if matrix.form == "FM":
            return packed.view(np.float32)
        with np.errstate(over="ignore"):  # of what will be found not to be finite
            return packed.astype(np.float32)

    def _read(self, start: int, count: int) -> bytes:
        content = os.pread(self._file, count, start)
        if len(content) < count:
            raise self._error(start, "is cut short; it was longer when it was opened")
        return content

    def _error(self, offset: int, problem: str) -> DataError:
        return DataError.at(f"{self.path}:{offset}", problem)


def _is_packed(form: str) -> bool:
    return form.startswith("CM")


def _first_element(matrix: Matrix) -> int:
    """Return the place of the first element, behind the headers."""
    if not _is_packed(matrix.form):
        return matrix.header
    of_columns = matrix.columns * _COLUMN_HEADER_BYTES if matrix.form == "CM" else 0
    return matrix.header + 16 + of_columns


def load_kaldiio() -> None:
    """Raise UserError where compressed matrices cannot be unpacked; it says what to install."""
    try:
        import kaldiio  # noqa: F401, PLC0415 -- an extra: only its users need it
    except ImportError as error:
        raise UserError(
            "kaldi: compressed features need kaldiio; install it with pip install 'lockstep-sgd[speech]'"
        ) from error


def _unpacked(packed: NDArray[np.integer], header: bytes, matrix: Matrix) -> NDArray[np.float32]:
    """Unpack rows of a compressed matrix; those of a CM are its columns here."""
    from kaldiio.compression_header import GlobalHeader, PerColHeader  # noqa: PLC0415 -- an extra

    file = BytesIO(header)
    whole = GlobalHeader.read(file, matrix.form)
    with np.errstate(over="ignore", invalid="ignore"):  # of damage, which will be found not to be finite
        if matrix.form == "CM":
            values = PerColHeader.read(file, whole).char_to_float(packed).T
        else:
            values = whole.uint_to_float(packed)
        return np.ascontiguousarray(values, np.float32)


def read_vectors(path: Path) -> Iterator[tuple[str, NDArray[np.uint16]]]:
    """Yield the names and vectors of an archive of labels, binary or text, in its order.

    Raises
    ------
    DataError
        The file is damaged, or has a number that is no label.
    OSError
        It cannot be read.
    """
    content = read_bytes(path)
    place = 0
    while place < len(content):
        end = content.find(b" ", place, place + 1000)
        if end < 0:
            raise DataError.at(f"{path}:{place}", "has no name of an utterance with numbers behind")
        name = content[place:end].decode("utf-8", "surrogateescape")
        labels, place = vector_at(content, end + 1, path)
        yield name, labels


def vector_at(content: bytes, place: int, path: Path) -> tuple[NDArray[np.uint16], int]:
    """Return the vector of labels at a place of an archive, and the place behind it; see `read_vectors`."""
    if content.startswith(BINARY, place):
        return _binary_vector(content, place, path)
    end = content.find(b"\n", place)
    end = len(content) if end < 0 else end
    try:
        numbers = [int(each) for each in content[place:end].decode("ascii").split()]
        labels = np.array(numbers, np.int64)
    except (ValueError, OverflowError):
        line = content[place : min(end, place + 100)].decode("ascii", "replace")
        raise DataError.at(f"{path}:{place}", f"has {shortened(repr(line))}; must be whole numbers") from None
    return _checked(labels, f"{path}:{place}"), end + 1


def _binary_vector(content: bytes, place: int, path: Path) -> tuple[NDArray[np.uint16], int]:
    start = place + len(BINARY)
    (count,) = np.frombuffer(content[start + 1 : start + 5].ljust(4, b"\xff"), "<i4").tolist()
    first, end = start + 5, start + 5 + count * _ENTRY.itemsize
    if content[start : start + 1] != b"\4" or count < 0 or end > len(content):
        raise DataError.at(f"{path}:{place}", "has no whole vector of numbers (int32)")
    entries = np.frombuffer(content, _ENTRY, count, offset=first)
    if (entries["size"] != 4).any():
        raise DataError.at(f"{path}:{place}", "has a damaged vector of numbers (int32)")
    return _checked(entries["value"], f"{path}:{place}"), end


def _checked(labels: NDArray[np.integer], where: str) -> NDArray[np.uint16]:
    wrong = labels[(labels < 0) | (labels >= _MOST_LABELS)]
    if len(wrong):
        raise DataError.at(where, f"has label {wrong[0]}; must be from 0 to {_MOST_LABELS - 1}")
    return labels.astype(np.uint16)
