"""The control groups that this process is in: containers, and what Slurm and systemd limit a job by."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

GROUPS = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


def groups_of(controller: str, groups: Path = GROUPS, mount: Path = MOUNT) -> Iterator[tuple[int, Path]]:
    """Yield the version and the folder of each group whose limits on "cpu" or "memory" hold for this process.

    They are its own group and those above it; a container may see its own group as the root. Version 2 has
    one hierarchy, version 1 one a controller.
    """
    lines = []
    with suppress(OSError):  # another system, or no /proc
        lines = groups.read_text(errors="replace").splitlines()
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield from ((2, group) for group in _upwards(mount, path))
        elif controller in controllers.split(","):
            yield from ((1, group) for group in _upwards(mount / controller, path))


def words_of(file: Path) -> list[str]:
    """Return the words of a group's file; none where there is none, or it is not for us."""
    with suppress(OSError):
        return file.read_text(errors="replace").split()
    return []


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    inside = Path(path.lstrip("/"))
    yield from (mount / folder for folder in (inside, *inside.parents))
