"""Files that users name: they are written whole or not at all, and what fails is a UserError."""

import errno
import io
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from engine.config.errors import UserError

UNFINISHED = ".unfinished"
"""Ending of a file, or of a folder, that is not whole yet."""


@contextmanager
def reading(path: Path, what: str = "") -> Iterator[None]:
    """Turn an OSError into a UserError that says which file cannot be read.

    Parameters
    ----------
    path
        Named in the error, unless the system names another file.
    what
        The option that named it: "resume".
    """
    try:
        yield
    except OSError as error:
        raise _refused(error, path, what, "read") from error


def open_file(path: Path) -> BinaryIO:
    """Open a file to read its bytes.

    Raises
    ------
    OSError
        As it comes; also where it is no regular file: a pipe may wait for ever, a device may never end.
    """
    check_regular(path)
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 -- the caller's to close
    try:
        _check_regular(os.fstat(file.fileno()), path)  # nor has it become another one meanwhile
    except OSError:
        file.close()
        raise
    return file


def read_bytes(path: Path) -> bytes:
    """Return the content of a file; OSError as of `open_file`, also where it is larger than memory."""
    with open_file(path) as file:
        try:
            return file.read()
        except MemoryError as error:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), str(path)) from error


def read_text(path: Path) -> str:
    """Return the text of a file of UTF-8; errors are those of `read_bytes`, and UnicodeDecodeError."""
    return io.TextIOWrapper(io.BytesIO(read_bytes(path)), encoding="utf-8").read()


def check_regular(path: Path) -> None:
    """Raise OSError where a path leads to anything but a regular file, before another library opens it."""
    _check_regular(path.stat(), path)


def _check_regular(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        kind = "a pipe" if stat.S_ISFIFO(status.st_mode) else "a device or socket"
        raise OSError(errno.EINVAL, f"it is no regular file but {kind}", str(path))


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


@contextmanager
def writing(path: Path, what: str = "") -> Iterator[None]:
    """Turn an OSError into a UserError that says what cannot be written: a full disk, a missing permission.

    Parameters
    ----------
    path
        File or folder, named in the error unless the system names another one.
    what
        The option that named it: "out".
    """
    try:
        yield
    except OSError as error:
        raise _refused(error, path, what, "written") from error


def _refused(error: OSError, path: Path, what: str, done: str) -> UserError:
    named = str(error.filename or path).removesuffix(UNFINISHED)
    return UserError(f"{what}{': ' if what else ''}{named}: cannot be {done}: {error.strerror or error}")


def check_place(path: Path, what: str = "", *, overwrite: bool) -> None:
    """Raise UserError where a file cannot be written, or is there already, before there is anything to write.

    Parameters
    ----------
    what
        The option that named it: "out".
    overwrite
        What is there may be replaced: the user has said so by --overwrite, or it is known to be ours. Never
        what `check_replaceable` refuses.
    """
    where = f"{what}: {path}" if what else str(path)
    check_replaceable(path, what)
    if not path.parent.is_dir():
        raise UserError(f"{where}: there is no folder {path.parent}")
    if path.exists() and not overwrite:
        raise UserError(f"{where}: exists; give another name, or --overwrite")
    with writing(path, what):
        write_durably(unfinished(path), ())
        unfinished(path).unlink()


def check_replaceable(path: Path, what: str = "") -> None:
    """Raise UserError where a new file would take the place of what is none: a device, a pipe, a link.

    /dev/null is there for all programs of a machine, and a link is perhaps /dev/stdout.
    """
    where = f"{what}: {path}" if what else str(path)
    if path.is_dir():
        raise UserError(f"{where}: is a folder; give the name of a file")
    if path.is_symlink():
        raise UserError(f"{where}: is a link to {path.readlink()}, and stays one; give the name of a file")
    if path.exists() and not path.is_file():
        raise UserError(f"{where}: is a device, a pipe or a socket, and stays one; give the name of a file")


def unfinished(path: Path) -> Path:
    """Return the place beside `path` where it is prepared."""
    return path.with_name(f"{path.name}{UNFINISHED}")


def write_whole(path: Path, content: bytes | str | Iterable[bytes]) -> None:
    """Write a file that appears under its name when all of it is on the disk, also if the machine fails.

    What fails or is interrupted leaves what was there; a crash perhaps also an unfinished file beside it,
    which the next write replaces.

    Parameters
    ----------
    content
        Text is UTF-8; an iterable is written piece by piece.

    Raises
    ------
    OSError
        As it comes: see `writing`.
    """
    if isinstance(content, str):
        content = content.encode()
    try:
        write_durably(unfinished(path), (content,) if isinstance(content, bytes) else content)
        unfinished(path).replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished(path).unlink()
        raise
    sync_folder(path.parent)


def write_durably(path: Path, content: Iterable[bytes | memoryview]) -> None:
    """Write a new file's content to the disk itself; its name is `sync_folder`'s business.

    It takes the place of what has its name, and writes to nothing that is there: neither to where a link
    leads nor into a pipe.
    """
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.writelines(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, as fsync does the content of files."""
    sync(folder)


def sync(path: Path) -> None:
    """Make durable what has been written to a file, or the names in a folder."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
