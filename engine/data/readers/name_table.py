"""Names of many files in little memory."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload


class NameTable(Sequence[str]):
    """Names one behind the other, as bytes: a text of its own would take twice as much for each."""

    def __init__(self, names: Iterable[str] = ()):
        self._bytes = bytearray()
        self._ends = array("q", [0])
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        """Add a name, which may hold any bytes as Python has them in file names."""
        self._bytes += os.fsencode(name)
        self._ends.append(len(self._bytes))

    def encoded(self) -> Iterator[bytes]:
        """Yield the names as bytes."""
        start = 0
        for end in self._ends[1:]:
            yield bytes(self._bytes[start:end])
            start = end

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> NameTable: ...

    def __getitem__(self, index: int | slice) -> str | NameTable:
        if isinstance(index, slice):
            return NameTable(self[each] for each in range(len(self))[index])
        place = range(len(self))[index]
        return os.fsdecode(bytes(self._bytes[self._ends[place] : self._ends[place + 1]]))
