"""Memory of one process that others on the same machine can read.

A segment is a memfd: it has no name in any file system, the others open it by its entry in /proc. So nothing
is left behind however a process ends, and /dev/shm, which containers keep small, is not needed.
"""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

_PLACE = ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid", "/proc/self/ns/net")


@dataclass(frozen=True)
class Handle:
    """How another process finds a segment."""

    process: int
    file: int
    identity: tuple[int, int]
    """Device and inode."""
    floats: int


def sharing_domain() -> tuple[str, ...] | None:
    """Say where this process can share memory: with those that say the same. None: with nobody.

    Processes in different network namespaces count as on different machines.
    """
    if not hasattr(os, "memfd_create"):
        return None
    try:
        return (Path(_PLACE[0]).read_text("ascii").strip(), *map(os.readlink, _PLACE[1:]))
    except OSError:
        return None


@contextmanager
def offer(floats: int) -> Iterator[tuple[npt.NDArray[np.float32], Handle]]:
    """Make zeros, float32 [floats], that others can attach inside the `with`; all may be used ever after.

    Raises
    ------
    OSError
        The system has no memory, or no more files, to give.
    """
    file = os.memfd_create("lockstep")
    try:
        os.ftruncate(file, max(4 * floats, 1))
        status = os.fstat(file)
        own = _map(file, mmap.PROT_READ | mmap.PROT_WRITE, floats)
        yield own, Handle(os.getpid(), file, (status.st_dev, status.st_ino), floats)
    finally:
        os.close(file)


def attach(handle: Handle) -> npt.NDArray[np.float32]:
    """Return another process's segment, to be read only.

    Raises
    ------
    OSError
        It cannot be opened.
    """
    file = os.open(f"/proc/{handle.process}/fd/{handle.file}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.fstat(file)
        if (status.st_dev, status.st_ino) != handle.identity:
            raise FileNotFoundError(f"process {handle.process} has another file {handle.file}")
        return _map(file, mmap.PROT_READ, handle.floats)
    finally:
        os.close(file)


def _map(file: int, protection: int, floats: int) -> npt.NDArray[np.float32]:
    memory = mmap.mmap(file, max(4 * floats, 1), mmap.MAP_SHARED, protection)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # from a kernel without
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.float32, floats)
