"""The cores that this rank may use, and how many ranks share them."""

import os
import socket
from dataclasses import dataclass

from comm.communicator import Communicator
from engine.cpu_quota import cpu_quota


@dataclass(frozen=True)
class Cores:
    """What one rank sees of its host."""

    available: int
    """Cores in this process's affinity mask, or fewer where a container's quota allows less time."""
    ranks: int
    """Ranks on this host whose masks overlap with this one."""

    @property
    def threads(self) -> int:
        """Kernel threads for a rank that shares its cores fairly."""
        return max(1, self.available // self.ranks)


def cores(world: Communicator) -> Cores:
    """Look at the affinity masks of all ranks (collective)."""
    mask = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    host = socket.gethostname()
    everyone = world.gather_objects((host, mask))
    available = max(1, int(min(len(mask), cpu_quota())))
    return Cores(available, sum(other == host and bool(theirs & mask) for other, theirs in everyone))
