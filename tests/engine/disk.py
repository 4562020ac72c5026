"""A disk that forgets: it notes what has been synced, so that a test can ask what a power cut would leave."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

_ON_THE_WAY_OUT = {".replaced", ".removed"}  # names under which a checkpoint counts no more


class Disk:
    """Watches `os.fsync`, renames and removals below a folder, and what was safe at each of them."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch):
        if not Path("/proc/self/fd").exists():
            pytest.skip("reads /proc")
        self.root = root
        self.renamed: list[tuple[Path, Path]] = []
        self.lost: list[str] = []
        """What a power cut could have lost, for each rename and each removal."""
        self._contents: dict[int, bytes] = {}  # of synced files, by inode
        self._names: dict[int, set[str]] = {}  # of synced folders, by inode
        self._new: list[Path] = []  # under a name that is not synced yet
        self._fsync, self._rmtree = os.fsync, shutil.rmtree
        patch.setattr(os, "fsync", self._sync)
        patch.setattr(shutil, "rmtree", self._remove)
        for name in ("rename", "replace"):
            patch.setattr(os, name, self._renaming(getattr(os, name)))

    def is_safe(self, path: Path) -> bool:
        """Return whether a file, or a folder with all that is in it, has been synced as it is now."""
        if path.is_dir():
            inside = {each.name for each in path.iterdir()}
            return self._names.get(path.stat().st_ino) == inside and all(map(self.is_safe, path.iterdir()))
        return self._contents.get(path.stat().st_ino) == path.read_bytes()

    def unsynced_names(self) -> list[Path]:
        """Return what has been renamed since its folder was synced."""
        return [path for path in self._new if path.exists()]

    def _sync(self, file: int) -> None:
        self._fsync(file)
        path, inode = Path(f"/proc/self/fd/{file}").readlink(), os.fstat(file).st_ino
        if path.is_dir():
            self._names[inode] = {each.name for each in path.iterdir()}
            self._new = [each for each in self._new if each.parent != path]
        else:
            self._contents[inode] = path.read_bytes()

    def _renaming(self, real: Any) -> Any:
        def rename(old: Any, new: Any, **options: Any) -> None:
            if self.root in Path(new).parents:
                self._check_rename(Path(old), Path(new))
            real(old, new, **options)

        return rename

    def _check_rename(self, old: Path, new: Path) -> None:
        self.renamed.append((old, new))
        if new.suffix in _ON_THE_WAY_OUT:
            self._check_removal(old)
            return
        if not self.is_safe(old):
            self.lost.append(f"{old.name} became {new.name} before it was on the disk")
        self._new.append(new)

    def _check_removal(self, path: Path) -> None:
        waiting = [each.name for each in self.unsynced_names() if each != path]
        if waiting:
            self.lost.append(f"{path.name} was removed before the name {waiting[0]} was on the disk")

    def _remove(self, path: Any, *args: Any, **options: Any) -> None:
        if self.root in Path(path).parents and Path(path).exists():
            self._check_removal(Path(path))
        self._rmtree(path, *args, **options)
