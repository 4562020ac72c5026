"""Files that are read by position, by several threads, and kept open as far as the system's limit allows."""

from __future__ import annotations

import os
import resource
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from engine.config.files import open_file
from engine.data.dataset import DataError

_MOST = 512
_PART_OF_LIMIT = 4  # others of this process need files, too


class OpenFiles:
    """Files of one data set. The one that was used longest ago is closed when there are too many."""

    def __init__(self, paths: Sequence[Path], *, most: int | None = None):
        self.paths = tuple(paths)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        allowed = _MOST if soft == resource.RLIM_INFINITY else min(_MOST, soft // _PART_OF_LIMIT)
        self._most = max(1, allowed if most is None else most)
        self._open: OrderedDict[int, _OpenFile] = OrderedDict()
        self._lock = Lock()

    def read(self, file: int, offset: int, count: int) -> bytes:
        """Return `count` bytes from a place of a file.

        Raises
        ------
        DataError
            The file cannot be read, or ends before.
        """
        path = self.paths[file]
        try:
            content = _read(self._opened(file), offset, count)
        except OSError as error:
            raise DataError.at(path, f"cannot be read: {error.strerror}") from error
        if len(content) < count:
            raise DataError.at(path, f"ends before byte {offset + count}: cut short since it was opened?")
        return content

    def _opened(self, file: int) -> _OpenFile:
        with self._lock:
            found = self._open.get(file)
            if found is None:
                found = self._open[file] = _OpenFile(_descriptor(self.paths[file]))
            self._open.move_to_end(file)
            if len(self._open) > self._most:
                self._open.popitem(last=False)  # closed when the last thread has read from it
            return found


class _OpenFile:
    """A descriptor, closed when nobody reads from it any more."""

    def __init__(self, number: int):
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


def _descriptor(path: Path) -> int:
    with open_file(path) as file:
        return os.dup(file.fileno())


def _read(opened: _OpenFile, offset: int, count: int) -> bytes:
    """Read at a place; less where the file ends, as the system may also give less than is asked for."""
    content = os.pread(opened.number, count, offset)
    while len(content) < count:
        more = os.pread(opened.number, count - len(content), offset + len(content))
        if not more:
            break
        content += more
    return content
