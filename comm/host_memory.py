"""Shared memory: segments of one process that other processes of the same host can read.

A segment is a memfd, which has no name in a file system; other processes open it by its entry in /proc. So
nothing is left behind however a process ends, and /dev/shm, which containers keep small, is not needed.
"""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACES = ("/proc/self/ns/pid", "/proc/self/ns/net")


@dataclass(frozen=True)
class Handle:
    """Address of a segment, for other processes."""

    process: int
    file: int
    """File descriptor in the owner's process."""
    identity: tuple[int, int]
    """Device and inode, because the owner may use the descriptor for another file by now."""
    floats: int


def boot_id() -> str:
    """Return a text that names the running Linux: the same in all its containers and namespaces.

    Raises
    ------
    OSError
        The system is another one, or has no /proc.
    """
    return _BOOT.read_text("ascii").strip()


def sharing_domain() -> tuple[str, ...] | None:
    """Identify the processes that this one can share memory with: those with the same domain. None: no other.

    A domain is one boot of a machine and its namespaces of processes and of networks. Memory could be shared
    across network namespaces too, but they stand for different hosts: so one machine can simulate several.
    """
    if not hasattr(os, "memfd_create"):
        return None
    try:
        return (boot_id(), *map(os.readlink, _NAMESPACES))
    except OSError:
        return None


@contextmanager
def offer(floats: int) -> Iterator[tuple[npt.NDArray[np.float32], Handle]]:
    """Create a segment of zeros, float32 [floats]; others attach it inside the `with`, it stays mapped after.

    Raises
    ------
    OSError
        If no memory, or no file descriptor, is left.
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
    """Map another process's segment, read-only.

    Raises
    ------
    OSError
        If it cannot be opened.
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
        with suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.float32, floats)
