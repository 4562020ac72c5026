"""When a message arrives: the links between ranks, each carrying one byte after the other."""

from dataclasses import dataclass
from typing import final

from comm.mpi import EAGER_BYTES
from engine.planner.cluster import SWITCH, Channel, Cluster

EAGER_NEAR_BYTES = 1 << 12
"""A longer message is fetched by a receiver in shared memory: two ways. One of more than EAGER_BYTES over a
network announces itself and leaves only when the receiver has answered: three. (Open MPI, sm and TCP.)"""


@dataclass
class _Link:
    bytes_per_s: float
    free_s: float = 0.0

    def carry(self, count: int, start: float) -> tuple[float, float]:
        """Take so many bytes, the first not before `start`; return when first and last are through."""
        first = max(start, self.free_s)
        self.free_s = first + count / self.bytes_per_s
        return first, self.free_s


@final
class Wires:
    """The links between ranks, and when what goes over them arrives.

    A rank's link to the network carries messages in the order in which they were posted, as does what ranks
    of one host, or machines of one group, share. Every link lets the head of a message through before its
    tail has come.

    Parameters
    ----------
    alike
        All ranks do the same at the same time and only one of them is simulated: what they share is cut into
        equal parts.
    """

    def __init__(self, cluster: Cluster, *, alike: bool):
        self._cluster, self._alike = cluster, alike
        self._links: dict[tuple[str, int], _Link] = {}

    def channel(self, one: int, other: int) -> Channel:
        """Return how two ranks reach each other."""
        near = self.are_near(one, other)
        return self._cluster.shared_memory if near else self._cluster.network.channel

    def are_near(self, one: int, other: int) -> bool:
        """Say whether two ranks are on one host."""
        return self._host(one) == self._host(other)

    def arrival(self, source: int, to: int, count: int, now: float, *, waited_s: float = 0.0) -> float:
        """Send so many bytes and return when the last arrives.

        Parameters
        ----------
        waited_s
            How long ago it was posted, if the receiver is only ready now: its first way may be behind it.
        """
        channel, network = self.channel(source, to), self._cluster.network
        way = channel.latency_s
        if channel is self._cluster.shared_memory:
            ways = 2 if count > EAGER_NEAR_BYTES else 1
            path = [self._link("memory", source, channel.bytes_per_s, 1)]
        else:
            ways = 3 if count > EAGER_BYTES else 1
            hosts = self._host(source), self._host(to)
            ranks = self._cluster.machine.ranks
            path = [
                self._link("out", hosts[0], channel.bytes_per_s, ranks),
                self._link("in", hosts[1], channel.bytes_per_s, ranks),
            ]
            groups = self._group(hosts[0]), self._group(hosts[1])
            if groups[0] != groups[1]:
                way += network.far_latency_s
                shared = channel.bytes_per_s * network.group_machines / network.oversubscription
                sharing = network.group_machines * ranks
                path.insert(1, self._link("up", groups[0], shared, sharing))
                path.insert(2, self._link("down", groups[1], shared, sharing))
        head, tail = now, now
        for link in path:
            head, through = link.carry(count, head)
            tail = max(tail, through)
        return tail + ways * way - min(way, waited_s)

    def _link(self, kind: str, place: int, bytes_per_s: float, sharing: int) -> _Link:
        key = (kind, 0 if self._alike else place)
        if key not in self._links:
            self._links[key] = _Link(bytes_per_s / sharing if self._alike else bytes_per_s)
        return self._links[key]

    def _host(self, rank: int) -> int:
        return rank // self._cluster.machine.ranks

    def _group(self, host: int) -> int:
        network = self._cluster.network
        return 0 if network.topology == SWITCH else host // network.group_machines
