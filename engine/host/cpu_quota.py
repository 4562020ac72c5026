"""Read the CPU quota of a container: a limit that no affinity mask shows.

loky.cpu_count reads the quota of the topmost group alone, so that a limit of a group inside it (a systemd
slice, a Slurm step) goes unseen, and rounds it up: 1.5 cores would get 2 threads. psutil knows no quotas.
"""

import math
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


def cpu_quota(groups: Path = GROUPS, mount: Path = MOUNT) -> float:
    """Return the CPU time a second that the control groups of this process allow: 1.5 is one core and a half.

    Without a limit it is infinite. The tightest limit from this group up to the root holds. Version 2 has one
    hierarchy with ``cpu.max``; version 1 has one a controller, with ``cpu.cfs_quota_us`` and
    ``cpu.cfs_period_us``.
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
    """Yield the folders of a group and of those above it; a container may see its own group as the root."""
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
