"""Memory: how much there is, its limits, huge pages, and /dev/shm."""

import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from engine.doctor.finding import NOTE, OK, PROBLEM, Finding
from engine.host.memory_limit import container_limit, physical_bytes, process_limits, room

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
SHM = Path("/dev/shm")
INFINIBAND = Path("/sys/class/infiniband")
_LEAST_ROOM = 1e9
_LEAST_SHM = 256e6


def memory(infiniband: Path = INFINIBAND) -> Iterator[Finding]:
    """Say how much memory a run may use, and what limits it."""
    total, free = physical_bytes()
    limit, group = container_limit()
    text = f"{size(total)}, {size(free)} of it available" if total < math.inf else "how much is not known"
    if limit < math.inf:
        text += f"; a container's limit is {size(limit)} ({group})"
    if room() < _LEAST_ROOM:
        yield Finding(
            "memory",
            PROBLEM,
            f"{text}; only {size(room())} may still be filled",
            "end other programs, or raise the limit of the container or job",
        )
    else:
        yield Finding("memory", OK, text)
    for option, bytes_ in process_limits().items():
        yield Finding(
            f"ulimit {option}", NOTE, f"{size(bytes_)} for each process", f"ulimit {option} unlimited"
        )
    if sys.platform == "linux":
        yield from _locked(infiniband)


def huge_pages(file: Path = HUGE_PAGES) -> Iterator[Finding]:
    """Say whether large arrays may lie in huge pages, which the engine and numpy ask for."""
    try:
        text = file.read_text(errors="replace")
    except OSError as error:
        yield Finding("huge pages", OK, f"not known: {error.strerror}")
        return
    chosen = re.search(r"\[(\w+)\]", text)
    if chosen and chosen[1] == "never":
        yield Finding(
            "huge pages",
            NOTE,
            "never: large arrays are walked in pages of 4 KB",
            f"as root: echo madvise > {file}",
        )
    else:
        yield Finding("huge pages", OK, chosen[1] if chosen else "not known")


def shared_memory(place: Path = SHM) -> Iterator[Finding]:
    """Say how much room /dev/shm has: MPI libraries keep messages there, the engine itself nothing."""
    try:
        status = os.statvfs(place)
    except OSError as error:
        yield Finding(
            "/dev/shm",
            NOTE,
            f"{error.strerror}: MPI may send messages inside this host by slower ways",
            "mount a tmpfs there",
        )
        return
    total, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
    text = f"{size(total)}, {size(free)} of it free"
    if not os.access(place, os.W_OK | os.X_OK):
        yield Finding("/dev/shm", NOTE, f"{text}, but it cannot be written", f"chmod 1777 {place}")
    elif free < _LEAST_SHM:
        yield Finding(
            "/dev/shm",
            NOTE,
            f"{text}: MPI may need more for several ranks",
            "remove what lies there; in containers docker run --shm-size=1g, in a pod an emptyDir in memory",
        )
    else:
        yield Finding("/dev/shm", OK, text)


def size(count: float) -> str:
    """Return bytes in the unit that fits."""
    return f"{count / 1e9:.1f} GB" if abs(count) >= 1e9 else f"{count / 1e6:.0f} MB"


def _locked(infiniband: Path) -> Iterator[Finding]:
    """Say where InfiniBand cannot pin the memory that it reads."""
    import resource  # noqa: PLC0415 -- Unix only

    if not infiniband.is_dir() or next(infiniband.iterdir(), None) is None:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit == resource.RLIM_INFINITY:
        yield Finding("InfiniBand", OK, "its memory may be locked without limit")
    else:
        yield Finding(
            "InfiniBand",
            NOTE,
            f"only {size(limit)} of memory may be locked for it",
            "ulimit -l unlimited (in /etc/security/limits.conf, or LimitMEMLOCK= of Slurm's daemon)",
        )
