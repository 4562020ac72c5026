"""Entries of an LMDB database: keys, and places of values in its file, found by walking its tree of pages.

The file is read as any other, by position: no lock, any number of readers, and a damaged page is an error in
one line, where LMDB's own library would read memory that is not there. The form of pages is that of LMDB 0.9
(mdb.c of OpenLDAP: MDB_page, MDB_node, MDB_meta), in the little-endian form of 64 bits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from engine.data.dataset import DataError
from engine.data.readers.open_files import OpenFiles

_HEADER = 16
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_META = struct.Struct("<II8xQ")  # magic, version, size of the map
_TABLE = struct.Struct("<IHHQQQQQ")  # flags and figures of a table: the last is the page of its root
_NODE = struct.Struct("<HHHH")
_PAGE = struct.Struct("<QHHHH")
_BRANCH, _LEAF, _OVERFLOW, _METAPAGE = 1, 2, 4, 8  # kinds of pages
_ELSEWHERE, _TABLE_INSIDE, _MANY = 1, 2, 4  # kinds of entries
_NO_PAGE = 0xFFFFFFFFFFFFFFFF
_DEEPEST = 32
_PAGE_SIZES = tuple(1 << bits for bits in range(9, 17))


class LmdbFile:
    """The entries of one file, in the order of their keys."""

    def __init__(self, opened: OpenFiles, file: int):
        self._opened, self._file = opened, file
        self.path: Path = opened.paths[file]
        self._length = self.path.stat().st_size
        first = self._meta(0)
        self._page_size = int(first[1])
        if self._page_size not in _PAGE_SIZES:
            raise self._wrong(f"has pages of {self._page_size} bytes")
        self._left = 0
        self.entries, self._root = max(first, self._meta(self._page_size))[2:]
        if self.entries > self._length:
            raise self._wrong(f"counts {self.entries:,} entries")

    def __iter__(self) -> Iterator[tuple[bytes, int, int]]:
        """Yield key, offset and size of each value; DataError for a page that is not what it must be."""
        self._left = self._length // self._page_size
        count = 0
        for entry in () if self._root == _NO_PAGE else self._walk(self._root, 0):
            count += 1
            yield entry
        if count != self.entries:
            raise self._wrong(f"has {count:,} of {self.entries:,} entries")

    def read(self, offset: int, count: int) -> bytes:
        """Read at a place, to the end of the file at most."""
        return self._opened.read(self._file, offset, max(0, min(count, self._length - offset)))

    def _wrong(self, problem: str) -> DataError:
        return DataError.at(self.path, f"{problem}: it is no database of LMDB, or damaged or cut short")

    def _meta(self, place: int) -> tuple[int, int, int, int]:
        """Return a root of the database: its age, the size of pages, and count and tree of its entries."""
        content = self.read(place + _HEADER, 24 + 2 * _TABLE.size + 16)
        if len(content) < 24 + 2 * _TABLE.size + 16:
            raise self._wrong(f"has {self._length:,} bytes")
        magic, version, _ = _META.unpack_from(content)
        if (magic, version) != (_MAGIC, _VERSION):
            raise self._wrong("does not begin as one, of version 0.9 and 64 bits")
        page_size = _TABLE.unpack_from(content, 24)[0]
        table = _TABLE.unpack_from(content, 24 + _TABLE.size)
        if table[1] & ~0x08:  # reverse keys, several values of a key and the like; 8: keys are numbers
            raise self._wrong("has keys of another kind")
        (age,) = struct.unpack_from("<Q", content, 24 + 2 * _TABLE.size + 8)
        return age, page_size, table[6], table[7]

    def _page(self, number: int) -> tuple[bytes, int, list[int]]:
        """Return a page, its kind, and where its nodes are."""
        content = self.read(number * self._page_size, self._page_size)
        if len(content) < self._page_size:
            raise self._wrong(f"has no page {number}")
        itself, _, kind, lower, _ = _PAGE.unpack_from(content)
        count = (lower - _HEADER) // 2
        if itself != number or not 0 <= count <= self._page_size // 2 or lower > self._page_size:
            raise self._wrong(f"has a wrong page {number}")
        nodes = list(struct.unpack_from(f"<{count}H", content, _HEADER))
        if any(node + _NODE.size > self._page_size for node in nodes):
            raise self._wrong(f"has a wrong page {number}")
        return content, kind, nodes

    def _walk(self, number: int, depth: int) -> Iterator[tuple[bytes, int, int]]:
        content, kind, nodes = self._page(number)
        self._left -= 1  # each page is met once, or they are in a circle
        if self._left < 0 or depth > _DEEPEST or kind & ~0x10 not in (_BRANCH, _LEAF):
            raise self._wrong(f"has a page {number} of another kind")
        for node in nodes:
            low, high, flags, key_size = _NODE.unpack_from(content, node)
            if kind & _BRANCH:
                yield from self._walk(low | high << 16 | flags << 32, depth + 1)
                continue
            start = node + _NODE.size + key_size
            key, size = content[node + _NODE.size : start], low | high << 16
            yield key, self._value(content, number, start, size, flags), size

    def _value(self, content: bytes, number: int, start: int, size: int, flags: int) -> int:
        """Return the place of a value in the file."""
        if flags & (_TABLE_INSIDE | _MANY):
            raise self._wrong("has tables in its table")
        if not flags & _ELSEWHERE:
            if start + size > self._page_size:
                raise self._wrong(f"has a wrong page {number}")
            return number * self._page_size + start
        if start + 8 > self._page_size:
            raise self._wrong(f"has a wrong page {number}")
        (there,) = struct.unpack_from("<Q", content, start)
        place = int(there) * self._page_size + _HEADER
        if place + size > self._length:
            raise self._wrong(f"has a value that ends at byte {place + size:,} of {self._length:,}")
        return place
