"""Read the CPU quota of a container: a limit that no affinity mask shows.

loky.cpu_count reads the quota of the topmost group alone, so that a limit of a group inside it (a systemd
slice, a Slurm step) goes unseen, and rounds it up: 1.5 cores would get 2 threads. psutil knows no quotas.
"""

import math
from pathlib import Path

from engine.host.control_groups import GROUPS, MOUNT, groups_of, words_of


def cpu_quota(groups: Path = GROUPS, mount: Path = MOUNT) -> float:
    """Return the CPU time a second that the control groups of this process allow: 1.5 is one core and a half.

    Without a limit it is infinite. The tightest limit from this group up to the root holds. Version 2 has
    ``cpu.max``; version 1 has ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``.
    """
    return min(
        (
            _ratio(words_of(group / "cpu.max") if version == 2 else _version_1(group))
            for version, group in groups_of("cpu", groups, mount)
        ),
        default=math.inf,
    )


def _version_1(group: Path) -> list[str]:
    return words_of(group / "cpu.cfs_quota_us") + words_of(group / "cpu.cfs_period_us")


def _ratio(words: list[str]) -> float:
    """Return quota / period; a quota of "max" or -1 is no limit."""
    if len(words) != 2 or not all(word.isdecimal() for word in words) or int(words[1]) == 0:
        return math.inf
    return int(words[0]) / int(words[1])
