"""The share of CPU time that a container allows: a limit that no affinity mask shows."""

import math
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


def cpu_quota(groups: Path = GROUPS, mount: Path = MOUNT) -> float:
    """Return how many cores' time the control groups of this process allow; infinite without a limit.

    Version 2 has one hierarchy with ``cpu.max``, version 1 one a controller with ``cpu.cfs_quota_us`` and
    ``cpu.cfs_period_us``. The tightest limit from this group up to the root holds.
    """
    limit = math.inf
    for line in groups.read_text().splitlines() if groups.exists() else []:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            limit = min(limit, *(_ratio(_words(group / "cpu.max")) for group in _upwards(mount, path)))
        elif "cpu" in controllers.split(","):
            limit = min(limit, *(_ratio(_version_1(group)) for group in _upwards(mount / "cpu", path)))
    return limit


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """Yield a group's folder and those above; a container may see its own group as the root."""
    inside = Path(path.lstrip("/"))
    yield from (mount / folder for folder in (inside, *inside.parents))


def _version_1(group: Path) -> list[str]:
    return _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")


def _words(file: Path) -> list[str]:
    return file.read_text().split() if file.is_file() else []


def _ratio(words: list[str]) -> float:
    """Return quota / period; a quota of "max" or -1 is no limit."""
    if len(words) != 2 or not words[0].isdecimal():
        return math.inf
    return int(words[0]) / int(words[1])
