"""Read how much memory a process may use: of its container, of its machine, and by its own limits.

psutil knows the machine's, and no control groups.
"""

import math
import sys
from contextlib import suppress
from pathlib import Path

from engine.host.control_groups import GROUPS, MOUNT, groups_of, words_of

MEMINFO = Path("/proc/meminfo")
STATUS = Path("/proc/self/status")
EVENTS = Path("/proc/vmstat")

_NO_LIMIT = 1 << 60  # version 1 writes a number of about 2 ** 63


def container_limit(groups: Path = GROUPS, mount: Path = MOUNT) -> tuple[float, str]:
    """Return the bytes that the control groups of this process allow, and the folder of the group that does.

    The tightest limit from this group up to the root holds; all processes of that group share it. Without a
    limit it is infinite.
    """
    tightest: tuple[float, str] = (math.inf, "")
    for version, group in groups_of("memory", groups, mount):
        words = words_of(group / ("memory.max" if version == 2 else "memory.limit_in_bytes"))
        if len(words) == 1 and words[0].isdecimal() and int(words[0]) < _NO_LIMIT:
            tightest = min(tightest, (int(words[0]), str(group)))
    return tightest


def physical_bytes(meminfo: Path = MEMINFO) -> tuple[float, float]:
    """Return the machine's memory, and what of it is free for new work; infinite where it is hidden."""
    total, free = _kib(meminfo, "MemTotal"), _kib(meminfo, "MemAvailable")
    return total or math.inf, free or math.inf


def room() -> float:
    """Return the bytes that this process may still fill; infinite where nobody says it."""
    return min(container_limit()[0] - own_bytes(), physical_bytes()[1])


def own_bytes(status: Path = STATUS) -> int:
    """Return the memory that this process has filled itself: no files, no memory of other ranks."""
    return _kib(status, "RssAnon")


def processes_killed_for_memory(events: Path = EVENTS) -> int:
    """Return how many processes this machine has killed because a container or all of it was full."""
    with suppress(OSError, ValueError):
        for line in events.read_text(errors="replace").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def process_limits() -> dict[str, int]:
    """Return the limits on this process alone in bytes, by the option of ``ulimit`` that sets them."""
    if sys.platform == "win32":
        return {}
    import resource  # noqa: PLC0415 -- Unix only

    limits = {"-v": resource.RLIMIT_AS, "-d": resource.RLIMIT_DATA}
    found = {option: resource.getrlimit(limit)[0] for option, limit in limits.items()}
    return {option: limit for option, limit in found.items() if limit != resource.RLIM_INFINITY}


def _kib(file: Path, name: str) -> int:
    """Return the bytes of a line such as ``MemTotal:  65 kB``; 0 where there is none."""
    with suppress(OSError, ValueError):
        for line in file.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return 1024 * int(value.split()[0])
    return 0
