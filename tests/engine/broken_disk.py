"""A disk that breaks at the n-th call: full, failing, or gone with the process and what is not synced."""

import errno
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CALLS = ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync")
MAKING_ROOM = ("unlink", "rmdir")
WRITING = set("wax+")


class KilledError(BaseException):
    """The process is gone."""


@dataclass
class BrokenDisk:
    """Counts the calls that change files below a folder, and breaks one of them, or all from there on."""

    root: Path
    breaks_at: int
    """Number of the call, from 1 on; 0 breaks none."""
    kind: str = "none"
    """Either once (EIO), full (ENOSPC from then on), killed, or cut (killed, and unsynced bytes are lost)."""
    calls: list[str] = field(default_factory=list)
    _unsynced: dict[Path, int] = field(default_factory=dict)
    """Files with their lengths when they were last synced."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Stand in for the system's calls and for the files that are opened."""
        for name in CALLS:
            patch.setattr(os, name, self._watched(name, getattr(os, name)))
        patch.setattr(io, "open", self._opening(io.open))

    def lose(self) -> None:
        """Forget the bytes that a power cut would lose."""
        for path, length in self._unsynced.items():
            if path.is_file():
                os.truncate(path, length)

    def call(self, name: str, path: Path | None = None) -> None:
        """Count a call, and break it if its time has come."""
        self.calls.append(name if path is None else f"{name} {path.name}")
        number = len(self.calls)
        if not self.breaks_at or number < self.breaks_at:
            return
        if self.kind in ("killed", "cut"):
            raise KilledError
        if self.kind == "full" and name not in MAKING_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.kind == "once" and number == self.breaks_at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def wrote(self, path: Path, before: int) -> None:
        """Note that a file has bytes that are not synced; it had so many before them."""
        self._unsynced.setdefault(path, before)

    def _watched(self, name: str, real: Any) -> Any:
        def call(target: Any, *others: Any, **options: Any) -> Any:
            path = Path(f"/proc/self/fd/{target}").readlink() if name == "fsync" else Path(target)
            if self.root not in (path, *path.parents):
                return real(target, *others, **options)
            self.call(name, path)
            result = real(target, *others, **options)
            if name == "fsync":
                self._unsynced.pop(path, None)
            elif name in ("rename", "replace"):
                self._moved(path, Path(others[0]))
            return result

        return call

    def _moved(self, old: Path, new: Path) -> None:
        for path in [each for each in self._unsynced if old in (each, *each.parents)]:
            self._unsynced[new / path.relative_to(old)] = self._unsynced.pop(path)

    def _opening(self, real: Any) -> Any:
        def open_file(path: Any, mode: str = "r", *others: Any, **options: Any) -> Any:
            if isinstance(path, int) or self.root not in Path(path).parents or not WRITING & set(mode):
                return real(path, mode, *others, **options)
            self.call("open", Path(path))
            return _File(real(path, mode, *others, **options), Path(path), self)

        return open_file


class _File:
    """A file whose writes may break."""

    def __init__(self, real: Any, path: Path, disk: BrokenDisk):
        self._real, self._path, self._disk = real, path, disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *_: object) -> None:
        self._real.close()

    def write(self, content: bytes) -> int:
        self._disk.call("write", self._path)
        self._disk.wrote(self._path, self._path.stat().st_size)
        written: int = self._real.write(content)
        return written

    def writelines(self, pieces: Any) -> None:
        for piece in pieces:
            self.write(piece)
