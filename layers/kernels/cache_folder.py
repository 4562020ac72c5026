"""The folder of compiled kernels on disk: where it is, what versions it holds, and what is removed from it.

A version is a folder of its own, named after all that machine code depends on. Only files that are made here
are ever removed: whatever else lies among them stays.
"""

import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

NAME = "lockstep-kernels"
ABOUT = "about.json"
UNUSED_DAYS = 60.0
MOST_VERSIONS = 16

_DAY_S = 86_400.0
_VERSION = re.compile(r"[0-9a-f]{16}")
_FILE = re.compile(
    r".*\.(nbi|nbc|lock)|.*\.nb[ic]\.tmp\.[0-9a-f]+|about\.json"
)  # numba's, filelock's and ours


@dataclass(frozen=True)
class Version:
    """What is cached of one version of the kernels, for one numba and one kind of CPU."""

    folder: Path
    bytes: int
    used: float
    """When it was last used, to a day, in seconds of `time.time`."""
    about: Mapping[str, str]
    """What its kernels were compiled by and for; empty if unknown."""


def base_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder that holds all versions; None where nothing can be kept.

    As numba does it, in NUMBA_CACHE_DIR; else in XDG_CACHE_HOME; else in ~/.cache; else, where there is no
    home folder or nothing can be written there, in a temporary folder of this user.
    """
    asked = environment.get("NUMBA_CACHE_DIR") or _absolute(environment.get("XDG_CACHE_HOME"))
    if asked:
        return Path(asked).absolute() / NAME
    homes = [home / ".cache" / NAME for home in _home()]
    writable = next((home for home in homes if _can_write(home)), None)
    filled = next((home for home in homes if next(_versions_in(home), None)), None)
    return writable or filled or _temporary() or next(iter(homes), None)


def make_version(folder: Path, about: Mapping[str, str]) -> None:
    """Make the folder of a version if there is none, and remove old ones then.

    Raises
    ------
    OSError
        It cannot be made.
    """
    mark = folder / ABOUT
    if not mark.exists():
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text(json.dumps(dict(about)), "utf-8")
        remove_old(folder.parent, keep=folder)


def note_use(folder: Path) -> None:
    """Note that a version is in use today."""
    mark = folder / ABOUT
    with suppress(OSError):  # there is none yet, or others may read it only
        if time.time() - mark.stat().st_mtime > _DAY_S:
            os.utime(mark)


def versions(base: Path) -> list[Version]:
    """Return all versions, the one used last first."""
    found = [_described(folder) for folder in _versions_in(base)]
    return sorted(found, key=lambda version: -version.used)


def remove_old(base: Path, *, keep: Path) -> None:
    """Remove versions that have long been unused, and those beyond a number; what cannot be removed stays."""
    oldest = time.time() - UNUSED_DAYS * _DAY_S
    others = [version for version in versions(base) if version.folder != keep]
    for place, version in enumerate(others, start=1):
        if version.used < oldest or place >= MOST_VERSIONS:
            remove(version.folder)


def remove(folder: Path) -> None:
    """Remove the files of a version, and folders that are empty then; what cannot be removed stays."""
    for inside, _, names in os.walk(folder, topdown=False):
        with suppress(OSError):
            for name in filter(_FILE.fullmatch, names):
                (Path(inside) / name).unlink(missing_ok=True)
            Path(inside).rmdir()


def _described(folder: Path) -> Version:
    size, used = 0, 0.0
    for inside, _, names in os.walk(folder):
        for name in filter(_FILE.fullmatch, names):
            with suppress(OSError):  # removed meanwhile
                status = (Path(inside) / name).stat()
                size, used = size + status.st_size, max(used, status.st_mtime)
    about = {}
    with suppress(OSError, ValueError, RecursionError):
        read = json.loads((folder / ABOUT).read_text("utf-8"))
        about = {str(name): str(value) for name, value in read.items()} if isinstance(read, dict) else {}
    return Version(folder, size, used, about)


def _versions_in(base: Path) -> Iterator[Path]:
    with suppress(OSError):  # there is none, or not for us
        for folder in base.iterdir():
            if _VERSION.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
                yield folder


def _home() -> Iterator[Path]:
    with suppress(RuntimeError):  # neither HOME nor an entry in the list of users
        home = Path.home()
        if home.is_absolute():
            yield home


def _can_write(folder: Path) -> bool:
    """Return whether a folder, or the nearest one above it that exists, can be written; nothing is made."""
    existing = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _temporary() -> Path | None:
    """Return this user's folder among the temporary ones; None if somebody else may write into it."""
    try:
        place = Path(tempfile.gettempdir())
        if place == Path.cwd():  # what Python takes where there is none
            return None
        folder = place / f"{NAME}-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    return folder if status.st_uid == os.getuid() and status.st_mode & 0o170077 == 0o040000 else None


def _absolute(path: str | None) -> str | None:
    return path if path and Path(path).is_absolute() else None  # as the XDG specification wants it
