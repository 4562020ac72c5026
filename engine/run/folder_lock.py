"""The lock of a run's folder: one run writes there at a time."""

import errno
import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.config.errors import UserError
from engine.config.files import read_bytes, write_whole, writing

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK, HOLDER = ".lockstep.lock", ".lockstep.lock.json"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


@dataclass
class FolderLock:
    """A folder that this process writes to, until `release` or its end, however it ends."""

    folder: Path
    held: "BaseFileLock | None"
    """None where the file system has no locks: then nobody is kept out."""

    def __post_init__(self) -> None:
        self._place, self._file = _identity(self.folder), _identity(self.folder / LOCK)

    def check(self) -> None:
        """See before something is written that the folder is still the one that was locked.

        After `mv` or `rm -rf` another run may have the lock of a new folder of this name. A lock file that
        alone was removed is made anew.

        Raises
        ------
        UserError
            It is another run's.
        OSError
            There is none, or none that a run writes to: it may come back.
        """
        if self.held is None:
            return
        found = _identity(self.folder / LOCK)
        if found == self._file:
            return
        if found is not None:
            raise UserError(
                f"out: {self.folder}: is not the folder any more that this run has written to: it was moved, "
                "removed or replaced; nothing more is written there"
            )
        if _identity(self.folder) != self._place:
            raise FileNotFoundError(errno.ENOENT, "it was moved or removed", str(self.folder))
        again = lock_folder(self.folder, "out")
        self.held.release()
        self.held, self._file = again.held, again._file

    def release(self) -> None:
        """Let others write; may be called again."""
        if self.held is not None:
            with suppress(OSError):  # the next holder writes it anew
                self._remove(HOLDER)
            self.held.release()
            self.held = None

    def withdraw(self) -> None:
        """Release, and leave nothing of the lock in the folder, which nobody else has seen yet."""
        self.release()
        self._remove(LOCK)

    def _remove(self, name: str) -> None:
        """Remove a file from the folder, but not from another one of its name."""
        if _identity(self.folder / LOCK) == self._file:
            (self.folder / name).unlink(missing_ok=True)


def lock_folder(folder: Path, option: str) -> FolderLock:
    """Lock a folder for a run; the lock of a process that has ended does not count.

    Parameters
    ----------
    option
        What named the folder, for errors: "out".

    Raises
    ------
    UserError
        Another process holds it, or it cannot be written.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 -- not for --help

    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    with writing(folder, option):
        try:
            lock.acquire()
        except Timeout as error:
            raise UserError(
                f"{option}: {folder}: another run writes there, {_holder(folder)}; wait until it has ended, "
                "or give another --out"
            ) from error
        except NotImplementedError:
            return FolderLock(folder, None)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return FolderLock(folder, None)
            raise
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
        try:
            write_whole(folder / HOLDER, json.dumps(holder) + "\n")
        except OSError:
            lock.release()
            raise
    return FolderLock(folder, lock)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another one of its name; None where there is none."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def _holder(folder: Path) -> str:
    try:
        holder = json.loads(read_bytes(folder / HOLDER))
        return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # it is only just beginning
        return "which has just begun"
