"""Divide a machine's cores among its ranks, and choose the cores that the threads of a rank stay on.

Cores belong to a machine, which may seem to be several hosts: containers or network namespaces.
"""

import os
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby

from comm import host_memory
from comm.communicator import Communicator
from comm.launcher import is_launched
from engine.config.wording import counted
from engine.host.cpu_quota import cpu_quota

_LAUNCHERS = {"mpirun", "mpiexec", "prterun", "prted", "orterun", "orted", "hydra_pmi_proxy", "slurmstepd"}

MANY = 8  # cores of a rank; of more, one is left to the communication thread
FEW = 4  # threads that read samples, where no cores are left for them


@dataclass(frozen=True)
class Cores:
    """A rank's view of its machine: its cores, and the ranks it shares them with."""

    mask: tuple[int, ...]
    """Cores in this process's affinity mask."""
    available: int
    """Number of these cores, or fewer where the quotas of containers allow less time."""
    ranks: int
    """Ranks on this machine whose masks overlap with this one."""
    place: int
    """Position of this rank among them."""
    alike: bool
    """All of these ranks have the same mask."""
    idle: int
    """Cores of the machine that the launcher may use and none of its ranks may."""
    scattered: bool
    """Some host has ranks that are not consecutive."""

    def threads(self, *, beside: bool) -> int:
        """Return the kernel threads of this rank by `fair_threads`."""
        return fair_threads(self.available, self.ranks, beside=beside)

    def pinned(self, threads: int) -> tuple[int, ...] | None:
        """Return a core for each thread of this rank to stay on; None where threads should not be pinned.

        Ranks with the same mask divide it among them. Nobody is pinned where threads would share a core, or
        where half of the cores are left over: another job may use them, and the scheduler finds room.
        """
        share = len(self.mask) // self.ranks
        if not self.alike or self.available < len(self.mask) or not share // 2 < threads <= share:
            return None
        first = self.place * share
        return self.mask[first : first + threads]

    def complaints(self, threads: int) -> list[str]:
        """List what is wrong with the cores that the launcher gave, each with its remedy."""
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
            fair = fair_threads(self.available, self.ranks, beside=False)
            mend = f"lower --threads to {fair}" if threads > fair else "start fewer ranks on each host"
            if self.idle and threads > self.available:
                mend = "give each rank its cores: mpirun --bind-to none, or srun --cpus-per-task=N"
            found.append(
                f"{counted(self.ranks, 'rank')} x {counted(threads, 'thread')} share "
                f"{counted(self.available, 'core')}; {mend}"
            )
        return found


def fair_threads(cores: int, ranks: int, *, beside: bool) -> int:
    """Return the kernel threads of each of some ranks that share cores fairly.

    Parameters
    ----------
    beside
        A communication thread runs beside them: it gets a core of its own where a rank has more than MANY.
    """
    share = max(1, cores // ranks)
    return share - 1 if beside and share > MANY else share


def data_threads(cores: int, threads: int) -> int:
    """Return the threads that read a rank's samples, of its cores, beside the kernel threads.

    They wait for the kernels where no core is left for them; a few more than one, where there are cores, take
    as much time from the kernels as their work needs, and not more.
    """
    return max(cores - threads, min(cores, FEW), 1)


def find_cores(world: Communicator) -> Cores:
    """Compare the affinity masks of all ranks and return this rank's view (collective)."""
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
    """Return a text that only ranks on one machine have in common, whatever their hosts are called.

    A machine is a running Linux; elsewhere its host's name must do. Ranks on one machine share cores, but
    not always memory: see `comm.host_memory.sharing_domain`.
    """
    try:
        return host_memory.boot_id()
    except OSError:
        return socket.gethostname()


def _masks() -> tuple[set[int], set[int]]:
    """Return the cores of this process, and those of the launcher that started it (or its own).

    The launcher's daemon is not bound itself, but confined to the same container as its ranks.
    """
    if sys.platform != "linux":
        everything = set(range(os.cpu_count() or 1))
        return everything, everything
    mask = os.sched_getaffinity(0)
    return mask, os.sched_getaffinity(_launcher()) if is_launched() else mask


def _launcher() -> int:
    """Return the process that started this one as a rank: the parent, or further up behind scripts."""
    import psutil  # noqa: PLC0415 -- for launched ranks alone

    with suppress(psutil.Error):  # not for us to see
        for process in psutil.Process().parents():
            if process.name() in _LAUNCHERS:
                return int(process.pid)
    return os.getppid()
