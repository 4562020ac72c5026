"""The cores that this rank may use, how many ranks share them, and which its threads stay on.

Cores belong to a machine, which may seem to be several hosts: containers or network namespaces.
"""

import os
import socket
import sys
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from comm.communicator import Communicator
from comm.mpi import LAUNCHED_RANKS
from engine.config.wording import counted
from engine.host.cpu_quota import cpu_quota

_BOOT = Path("/proc/sys/kernel/random/boot_id")  # one text for all hosts that are namespaces of one Linux

_LAUNCHERS = {"mpirun", "mpiexec", "prterun", "prted", "orterun", "orted", "hydra_pmi_proxy", "slurmstepd"}

MANY = 8  # cores of a rank; of more, one is left to the communication thread


@dataclass(frozen=True)
class Cores:
    """What one rank sees of its machine."""

    mask: tuple[int, ...]
    """Cores in this process's affinity mask."""
    available: int
    """Their number, or fewer where the quotas of containers allow less time."""
    ranks: int
    """Ranks on this machine whose masks overlap with this one."""
    place: int
    """Of this rank among those."""
    alike: bool
    """Those ranks have all the same mask."""
    idle: int
    """Cores of the machine that the launcher had, and that none of its ranks may use."""
    scattered: bool
    """Some host has ranks that are not consecutive."""

    def threads(self, *, beside: bool) -> int:
        """Return the kernel threads of a rank that shares its cores fairly.

        With a communication thread `beside` them, it gets a core of its own where there are more than MANY.
        """
        share = max(1, self.available // self.ranks)
        return share - 1 if beside and share > MANY else share

    def pinned(self, threads: int) -> tuple[int, ...] | None:
        """Return the cores that this rank's threads stay on, one each; None where they should not.

        Ranks with the same mask divide it among them. Nobody is pinned where threads would share a core, or
        where half of the cores are left over: another job may use them, and the scheduler finds room.
        """
        share = len(self.mask) // self.ranks
        if not self.alike or self.available < len(self.mask) or not share // 2 < threads <= share:
            return None
        first = self.place * share
        return self.mask[first : first + threads]

    def complaints(self, threads: int) -> list[str]:
        """Return what is wrong with the cores that the launcher gave, each with what mends it."""
        found = []
        if self.scattered:
            found.append(
                "the ranks of a host are not consecutive, so that more crosses the network than must; "
                "use mpirun --map-by slot, or srun --distribution=block"
            )
        if self.idle:
            found.append(
                f"the launcher bound {counted(self.ranks, 'rank')} to {counted(len(self.mask), 'core')} and "
                f"left {self.idle} of the host idle; use them with mpirun --bind-to none, or "
                "srun --cpus-per-task=N"
            )
        if threads * self.ranks > self.available:
            fair = max(1, self.available // self.ranks)
            mend = f"lower --threads to {fair}" if threads > fair else "start fewer ranks on each host"
            if self.idle and threads > self.available:
                mend = "give each rank its cores: mpirun --bind-to none, or srun --cpus-per-task=N"
            found.append(
                f"{counted(self.ranks, 'rank')} x {counted(threads, 'thread')} share "
                f"{counted(self.available, 'core')}; {mend}"
            )
        return found


def cores(world: Communicator) -> Cores:
    """Look at the affinity masks of all ranks (collective)."""
    mask, around = _masks()
    machine, host = machine_name(), socket.gethostname()
    everyone = world.gather_objects((machine, host, mask))
    here = {rank: (name, theirs) for rank, (place, name, theirs) in enumerate(everyone) if place == machine}
    hosts = [(place, name) for place, name, _ in everyone]
    sharing = [rank for rank, (_, theirs) in here.items() if theirs & mask]
    containers = len({here[rank][0] for rank in sharing})  # a quota is one container's; others have the like
    return Cores(
        mask=tuple(sorted(mask)),
        available=max(1, int(min(len(mask), cpu_quota() * containers))),
        ranks=len(sharing),
        place=sharing.index(world.rank),
        alike=all(here[rank][1] == mask for rank in sharing),
        idle=len(around.difference(*(theirs for _, theirs in here.values()))),
        scattered=len(list(groupby(hosts))) > len(set(hosts)),
    )


def machine_name() -> str:
    """Return what ranks whose hosts share cores have in common; a host's name if the system does not tell."""
    return _BOOT.read_text().strip() if _BOOT.exists() else socket.gethostname()


def _masks() -> tuple[set[int], set[int]]:
    """Return the cores of this process, and those of the launcher that started it (or its own).

    The launcher's daemon is not bound itself, but confined to the same container as its ranks.
    """
    if sys.platform != "linux":
        everything = set(range(os.cpu_count() or 1))
        return everything, everything
    mask = os.sched_getaffinity(0)
    launched = any(name in os.environ for name in LAUNCHED_RANKS)
    return mask, os.sched_getaffinity(_launcher()) if launched else mask


def _launcher() -> int:
    """Return the process that started this one as a rank: the parent, or further up behind scripts."""
    process = os.getppid()
    while process > 1:
        try:
            status = Path(f"/proc/{process}/status").read_text("utf-8", "replace")
        except OSError:  # not for us to see
            break
        about = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        if about["Name"] in _LAUNCHERS:
            return process
        process = int(about["PPid"])
    return os.getppid()
