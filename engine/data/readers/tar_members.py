"""Members of an uncompressed tar file: names and places, by headers only (POSIX ustar, pax and GNU)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from engine.data.dataset import DataError
from engine.data.readers.open_files import OpenFiles

BLOCK = 512
_AHEAD = 4096  # read at once: a header, a label behind it, and the next header
_FILES = (b"0", b"\0", b"7")
_LONG_NAME, _PAX = b"L", b"x"
_MOST_NAME = 1 << 16
_ADLER = 65521  # sums of adler32 are remainders of it
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}


class TarMembers:
    """The files in a tar file, in order.

    Parameters
    ----------
    file
        Which of the opened ones it is.
    """

    def __init__(self, opened: OpenFiles, file: int):
        self._opened, self._file = opened, file
        self.path: Path = opened.paths[file]
        self._length = self.path.stat().st_size
        self._window, self._window_start = b"", 0

    def __iter__(self) -> Iterator[tuple[bytes, int, int]]:
        """Yield name, offset and size of each regular file.

        Raises
        ------
        DataError
            It is cut short, or damaged, or no tar file: names the file and the place.
        """
        place, longer, size_there = 0, b"", -1
        while True:
            header = self.read(place, BLOCK)
            if header[0] == 0 and not any(header):
                return
            size = self._size(header, place)
            kind = header[156:157]
            if size_there >= 0 and kind != _LONG_NAME:
                size, size_there = size_there, -1
            content, place = place + BLOCK, place + BLOCK + -(-size // BLOCK) * BLOCK
            if place > self._length:
                raise DataError.at(
                    self.path,
                    f"is cut short: the member at byte {content} has {size:,} bytes, up to {place:,}",
                )
            if kind == _LONG_NAME:
                longer = self._text(content, size).rstrip(b"\0")
            elif kind == _PAX:
                longer, size_there = self._pax(content, size)
            else:
                if kind in _FILES:
                    yield longer or name_in(header), content, size
                longer = b""

    def read(self, offset: int, count: int) -> bytes:
        """Read at a place, most often without asking the system; DataError where the file ends before."""
        start = offset - self._window_start
        if start < 0 or start + count > len(self._window):
            ahead = min(max(count, _AHEAD), self._length - offset)
            if ahead < count:
                raise DataError.at(
                    self.path,
                    f"ends at byte {self._length:,} without the blocks of zeros that end a tar file",
                )
            self._window, self._window_start, start = self._opened.read(self._file, offset, ahead), offset, 0
        return self._window[start : start + count]

    def _size(self, header: bytes, place: int) -> int:
        """Return the size in a header whose sum is right."""
        try:
            told = int(header[148:156].split(b"\0")[0] or b"-1", 8)
            total = zlib.adler32(header) & 0xFFFF  # 1 more than the sum of all bytes, quickly
            if total != (1 + told + sum(header[148:156]) - 8 * 32) % _ADLER:
                raise ValueError
            if header[124] & 0x80:
                return int.from_bytes(header[125:136], "big")
            return int(header[124:136].split(b"\0")[0].strip() or b"0", 8)
        except ValueError as error:
            kind = _COMPRESSED.get(header[:2]) if place == 0 else None
            raise DataError.at(
                self.path,
                f"is compressed ({kind}): samples are read by position; decompress it"
                if kind
                else f"has no header of a tar file at byte {place:,}: it is damaged",
            ) from error

    def _text(self, content: int, size: int) -> bytes:
        if size > _MOST_NAME:
            raise DataError.at(self.path, f"has a name of {size:,} bytes at byte {content:,}: it is damaged")
        return self.read(content, size)

    def _pax(self, content: int, size: int) -> tuple[bytes, int]:
        """Return the name and the size that a pax header gives the next member; empty and -1: none."""
        name, size_there, text = b"", -1, self._text(content, size)
        while text.strip(b"\0"):
            length, _, _ = text.partition(b" ")
            if not length.isdigit() or not 0 < int(length) <= len(text):
                raise DataError.at(self.path, f"has a damaged pax header at byte {content:,}")
            _, _, record = text[: int(length) - 1].partition(b" ")
            key, _, value = record.partition(b"=")
            if key == b"path":
                name = value
            elif key == b"size" and value.isdigit() and len(value) < 20:
                size_there = int(value)
            text = text[int(length) :]
        return name, size_there


def name_in(header: bytes) -> bytes:
    """Return the name in a header: of a long one its beginning."""
    name = header[:100].split(b"\0")[0]
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name
