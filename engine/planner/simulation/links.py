"""Links between ranks: each carries one message after the other, and their load decides when one arrives."""

from dataclasses import dataclass
from typing import final

from comm.mpi import EAGER_BYTES
from engine.planner.cluster import SWITCH, Channel, Cluster

SHARED_MEMORY_EAGER_BYTES = 1 << 12
"""Longest eager message between ranks of a host, as in Open MPI's sm transport; the receiver fetches longer
ones itself. Over a network the limit is `comm.mpi.EAGER_BYTES`, and longer ones need a rendezvous."""

_EAGER_TRIPS = 1  # one-way latencies until a message is there: it leaves at once
_FETCH_TRIPS = 2  # shared memory: the sender's offer, the receiver's copy
_RENDEZVOUS_TRIPS = 3  # TCP: request to send, clear to send, the message


@dataclass(slots=True)
class _Link:
    bytes_per_s: float
    free_s: float = 0.0
    """When the last byte that it has accepted is through."""

    def carry(self, count: int, start: float) -> tuple[float, float]:
        """Queue `count` bytes, the first not before `start`; return when the first and the last pass."""
        first = max(start, self.free_s)
        self.free_s = first + count / self.bytes_per_s
        return first, self.free_s


@final
class Links:
    """Compute the arrival of messages on links that ranks share.

    A rank's link to the network carries messages in the order in which they were posted; so do the link that
    ranks of a host share and those that machines of a group share. Forwarding is cut-through: every link lets
    the head of a message pass before its tail has come.

    Parameters
    ----------
    symmetric
        Only one rank is simulated because all do the same at the same time: it gets an equal share of the
        bandwidth of each link that it shares with others.
    """

    def __init__(self, cluster: Cluster, *, symmetric: bool):
        self._cluster, self._symmetric = cluster, symmetric
        self._links: dict[tuple[str, int], _Link] = {}

    def channel(self, one: int, other: int) -> Channel:
        """Return the channel between two ranks: shared memory on one host, else the network."""
        same = self.share_host(one, other)
        return self._cluster.shared_memory if same else self._cluster.network.channel

    def share_host(self, one: int, other: int) -> bool:
        """Return whether two ranks are on one host."""
        return self._host(one) == self._host(other)

    def arrival(self, source: int, to: int, count: int, now: float, *, waited_s: float = 0.0) -> float:
        """Send a message of `count` bytes and return when its last byte arrives.

        Parameters
        ----------
        waited_s
            Time from the sender's post to the receiver's, if that came later: the sender's first trip has
            been under way meanwhile.
        """
        channel, network = self.channel(source, to), self._cluster.network
        trip_s = channel.latency_s
        if channel is self._cluster.shared_memory:
            trips = _FETCH_TRIPS if count > SHARED_MEMORY_EAGER_BYTES else _EAGER_TRIPS
            path = [self._link("memory", source, channel.bytes_per_s, 1)]
        else:
            trips = _RENDEZVOUS_TRIPS if count > EAGER_BYTES else _EAGER_TRIPS
            hosts = self._host(source), self._host(to)
            ranks = self._cluster.machine.ranks
            path = [
                self._link("out", hosts[0], channel.bytes_per_s, ranks),
                self._link("in", hosts[1], channel.bytes_per_s, ranks),
            ]
            groups = self._group(hosts[0]), self._group(hosts[1])
            if groups[0] != groups[1]:
                trip_s += network.far_latency_s
                shared = channel.bytes_per_s * network.group_machines / network.oversubscription
                sharing = network.group_machines * ranks
                path.insert(1, self._link("up", groups[0], shared, sharing))
                path.insert(2, self._link("down", groups[1], shared, sharing))
        head, tail = now, now
        for link in path:
            head, through = link.carry(count, head)
            tail = max(tail, through)
        return tail + trips * trip_s - min(trip_s, waited_s)

    def _link(self, kind: str, place: int, bytes_per_s: float, sharing: int) -> _Link:
        """Return the link of one kind at a host or group, shared by `sharing` ranks; make it on first use."""
        key = (kind, 0 if self._symmetric else place)
        if key not in self._links:
            self._links[key] = _Link(bytes_per_s / sharing if self._symmetric else bytes_per_s)
        return self._links[key]

    def _host(self, rank: int) -> int:
        return rank // self._cluster.machine.ranks

    def _group(self, host: int) -> int:
        network = self._cluster.network
        return 0 if network.topology == SWITCH else host // network.group_machines
