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

    def release(self) -> None:
        """Let others write; may be called again."""
        if self.held is not None:
            with suppress(OSError):  # the next holder writes it anew
                (self.folder / HOLDER).unlink(missing_ok=True)
            self.held.release()
            self.held = None

    def withdraw(self) -> None:
        """Release, and leave nothing of the lock in the folder, which nobody else has seen yet."""
        self.release()
        (self.folder / LOCK).unlink(missing_ok=True)


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


def _holder(folder: Path) -> str:
    try:
        holder = json.loads(read_bytes(folder / HOLDER))
        return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # it is only just beginning
        return "which has just begun"
