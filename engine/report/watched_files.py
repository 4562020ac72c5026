"""Files of a run that goes on: what has come since the last look, without reading again what is known."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from engine.config.files import open_file

T = TypeVar("T")

_PIECE = 1 << 20
_MARK = 64  # bytes before the place that was read up to, by which another file of the name is known

_Seen = tuple[int, int, int, int]


class GrowingFile:
    """A file to which lines are appended, and in whose place another one may come.

    Parameters
    ----------
    tail
        Bytes before its end at which a first look begins; None: it begins at the beginning.
    """

    def __init__(self, path: Path, *, tail: int | None = None):
        self.path, self._tail = path, tail
        self.beginnings = 0
        """How often it was another file than before, which was read from its beginning."""
        self.changed_at: float | None = None
        """When it was written to, in seconds since the epoch; None where it has never been seen."""
        self._offset, self._mark = 0, b""
        self._seen: _Seen | None = None

    def read(self, take: Callable[[bytes], object], forget: Callable[[], object]) -> None:
        """Call `take` for each whole line that is new; `forget` before those of another file.

        A last line without its end waits for it. A file that is away or cannot be read has nothing new.
        """
        try:
            if (seen := _seen(status := self.path.stat())) == self._seen:
                return
            with open_file(self.path) as file:
                if not self._goes_on(file.fileno()):
                    self.beginnings += 1
                    self._offset, self._mark = 0, b""
                    forget()
                if self._tail is not None and self._offset < status.st_size - self._tail:
                    self._offset = _line_begin(file, status.st_size - self._tail)
                    self._mark = b""
                file.seek(self._offset)
                rest = b""
                while piece := file.read(_PIECE):
                    *lines, rest = (rest + piece).split(b"\n")
                    for line in lines:
                        take(line)
                        self._pass(line + b"\n")
                    if len(rest) > _PIECE:  # no run writes such a line
                        take(rest)
                        self._pass(rest)
                        rest = b""
        except OSError:
            return
        self._seen, self.changed_at = seen, status.st_mtime

    def _pass(self, line: bytes) -> None:
        self._offset += len(line)
        self._mark = line[-_MARK:]

    def _goes_on(self, number: int) -> bool:
        """Say whether the file still has before the offset what was read there."""
        if os.fstat(number).st_size < self._offset:
            return False
        return os.pread(number, len(self._mark), self._offset - len(self._mark)) == self._mark


class KeptFile(Generic[T]):
    """A small file that is read again whenever it has changed.

    Parameters
    ----------
    read
        Makes the value of the content; where it raises ValueError or RecursionError there is `nothing`.
    """

    def __init__(self, path: Path, read: Callable[[bytes], T], nothing: T):
        self.path, self._read, self._nothing = path, read, nothing
        self.value = nothing
        self.changes = 0
        """How often it was another value than before."""
        self.changed_at: float | None = None
        """When it was written, in seconds since the epoch; None where there is none."""
        self._seen: _Seen | None = None

    def look(self) -> T:
        """Return the value as it is now: `nothing` where there is no file, or one that cannot be read."""
        try:
            status = self.path.stat()
            seen, self.changed_at = _seen(status), status.st_mtime
        except OSError:
            seen, self.changed_at = None, None
        if seen != self._seen:
            self._seen = seen
            before, self.value = self.value, self._nothing if seen is None else self._content()
            self.changes += self.value != before
        return self.value

    def _content(self) -> T:
        try:
            with open_file(self.path) as file:
                return self._read(file.read())
        except (OSError, ValueError, RecursionError, MemoryError):
            return self._nothing


def _line_begin(file: BinaryIO, place: int) -> int:
    """Return where the first line begins behind a place."""
    file.seek(place)
    return place + len(file.readline(_PIECE))


def _seen(status: os.stat_result) -> _Seen:
    """Return what is another after a change."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
