"""Measure the machines at hand into a cluster file: kernels and pings, never a training run."""

import os
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from comm.communicator import CONTROL_TAG, Communicator, Message
from engine.config.wording import counted
from engine.host.affinity import find_cores, machine_name
from engine.host.aligned_arrays import aligned_zeros
from engine.planner.cluster import Channel, Cluster, Kernel, Machine, Network, Software
from engine.planner.design import Design
from engine.planner.measurement.pings import Pings, ping
from engine.planner.measurement.rehearsal import KINDS, Rehearsal, Times, merged
from engine.training.optimizer import SGD
from engine.training.update import Piece
from layers.kernels import relu
from layers.kernels.threads import Threads
from layers.work import PASSES

T = TypeVar("T")

_QUIET_S = 5e-3  # between two polls of a rank that waits while others measure
_PIECE = 1 << 18  # floats added or updated at a time, as in `comm.collectives` and `engine.training.bucket`
_LARGE = 1 << 24  # floats: more than caches hold
_RATE, _REPETITIONS = 1e-3, 5


@dataclass(frozen=True)
class Seats:
    """The machine and the host of each rank."""

    machines: tuple[str, ...]
    """Machine of each rank."""
    hosts: tuple[str, ...]
    """Host of each rank; a machine may be several."""
    cores: int
    """Cores of the machine that has the fewest."""

    @property
    def ranks_per_host(self) -> int:
        """Ranks of the fullest host."""
        return max(self.hosts.count(host) for host in self.hosts)

    @property
    def hosts_per_machine(self) -> int:
        """Hosts of the machine that has the most."""
        pairs = sorted(set(zip(self.machines, self.hosts, strict=True)))
        return max(sum(machine == other for other, _ in pairs) for machine, _ in pairs)

    def turn(self, rank: int, threads: int) -> int:
        """Return a rank's turn: no more ranks of a machine measure at once than have cores of their own."""
        earlier = self.machines[:rank].count(self.machines[rank])
        return earlier // max(1, self.cores // threads)

    def turns(self, threads: int) -> range:
        """Return all turns."""
        return range(1 + max(self.turn(rank, threads) for rank in range(len(self.hosts))))

    def pair(self, *, near: bool) -> tuple[int, int] | None:
        """Return the first two ranks of one host, or of two hosts; None where there are none."""
        ranks = range(len(self.hosts))
        pairs = ((one, two) for two in ranks for one in range(two))
        return next(((a, b) for a, b in pairs if (self.hosts[a] == self.hosts[b]) == near), None)


@dataclass(frozen=True)
class _Rates:
    """Bytes/s of one thread's adds and updates, and of the memory for all ranks of a machine."""

    add: float
    update: float
    memory: float


def measure(world: Communicator, designs: Sequence[Design], *, name: str, seconds: float = 5.0) -> Cluster:
    """Measure kernels, memory and messages; return them as a cluster, the same on all ranks (collective).

    Every layer of the designs is measured in the order of a step without communication, while the other
    ranks of its machine compute too; where they have no cores of their own, in turns. A design may have more
    ranks than there are.

    Parameters
    ----------
    name
        Name of the cluster.
    seconds
        For each design, and each kind of link; more where a step takes long.

    Raises
    ------
    UserError, ValueError
        A design whose plan or number of ranks its network and leaves do not allow.
    """
    seats = _seats(world)
    times = merged([_rehearse(world, seats, design, seconds) for design in designs])
    rates = _rates(world, seats)
    near, far = (_ping(world, seats.pair(near=which), seconds) for which in (True, False))
    local, remote = near or far, far or near
    return Cluster(
        name=name,
        description=_description(seats),
        machines=len(set(seats.machines)),
        machine=_machine(seats, times, rates),
        network=Network(_channel(remote, rates)),
        shared_memory=_channel(local, rates),
        software=Software(
            add_bytes_per_s=rates.add,
            update_bytes_per_s=rates.update,
            poll_s=remote.poll_s if remote else 0.0,
            polling=remote.polling if remote else 0.0,
            step_s=statistics.median(times.rest),
        ),
        kernels=_kernels(times),
    )


def _seats(world: Communicator) -> Seats:
    everyone = world.gather_objects((machine_name(), socket.gethostname(), find_cores(world)))
    machines, hosts, views = zip(*everyone, strict=True)
    own: dict[str, set[int]] = {}
    for place, each in zip(machines, views, strict=True):
        own.setdefault(place, set()).update(each.mask)
    available = (
        min(each.available + len(own[place]) - len(each.mask), len(own[place]))
        for place, each in zip(machines, views, strict=True)
    )
    return Seats(machines, hosts, min(available))


def _rehearse(world: Communicator, seats: Seats, design: Design, seconds: float) -> Times:
    """Rehearse on every rank with a problem that no rank has measured in an earlier turn (collective)."""
    pinned, found = find_cores(world).pinned(design.threads), Times()
    for turn in seats.turns(design.threads):
        own = Times()
        if turn == seats.turn(world.rank, design.threads):
            rehearsal = Rehearsal(design, world.rank % design.ranks, pinned)
            if not rehearsal.problems() <= set(found.passes):
                own = rehearsal.measure(seconds=seconds)
        _barrier(world)
        found = merged([found, *world.gather_objects(own)])
    return found


def _rates(world: Communicator, seats: Seats) -> _Rates:
    """Measure memory on the threads of all ranks together, then adds and updates on one (collective)."""
    sharing = seats.machines.count(seats.machines[world.rank])
    threads = max(1, seats.cores // sharing)
    copied = _in_turn(world, seats, threads, lambda: _copy_rate(threads))
    single = _in_turn(world, seats, 1, lambda: (_add_rate(), _update_rate()))
    everyone = world.gather_objects((copied, *single))
    at_once = min(sharing, max(1, seats.cores // threads))
    copies, adds, updates = (statistics.median(column) for column in zip(*everyone, strict=True))
    return _Rates(adds, updates, copies * at_once)


def _in_turn(world: Communicator, seats: Seats, threads: int, work: Callable[[], T]) -> T:
    results: list[T] = []
    for turn in seats.turns(threads):
        _barrier(world)
        if turn == seats.turn(world.rank, threads):
            results.append(work())
    _barrier(world)
    return results[0]


def _barrier(world: Communicator) -> None:
    """Wait for all ranks, with naps that leave the cores to those that still measure (collective)."""
    nothing, distance = np.zeros(1), 1
    while distance < world.size:
        to, source = (world.rank + distance) % world.size, (world.rank - distance) % world.size
        came = Message(source, CONTROL_TAG, np.empty(1))
        transfer = world.post([Message(to, CONTROL_TAG, nothing)], [came])
        while not transfer.test():
            time.sleep(_QUIET_S)
        distance *= 2


def _ping(world: Communicator, pair: tuple[int, int] | None, seconds: float) -> Pings | None:
    """Let two ranks measure while the others wait (collective)."""
    if pair is None:
        return None
    takes_part = world.rank in pair
    both = world.split(int(takes_part))
    found = ping(both, seconds=seconds) if takes_part else None
    _barrier(world)
    first: Pings = world.gather_objects(found)[pair[0]]
    return first


def _copy_rate(count: int) -> float:
    """Return the bytes/s that threads read and write."""
    rows = 64 * count
    x, y = (aligned_zeros((rows, _LARGE // 64)) for _ in range(2))
    x[:], y[:] = 1, 2
    with closing(Threads(count)) as threads:
        return _rate(lambda: relu.forward(threads, x, y), x.nbytes + y.nbytes)


def _add_rate() -> float:
    """Return the bytes/s of received gradients that are added, chunk by chunk as they come."""
    kept, received = aligned_zeros((_LARGE,)), aligned_zeros((_PIECE,))

    def work() -> None:
        for start in range(0, _LARGE, _PIECE):
            piece = kept[start : start + _PIECE]
            np.add(piece, received, out=piece)

    return _rate(work, kept.nbytes)


def _update_rate() -> float:
    """Return the bytes/s of weights that are updated."""
    weights, gradients, velocity = (aligned_zeros((_LARGE,)) for _ in range(3))
    gradients[:] = 1
    update = SGD().at(0, _RATE)

    def work() -> None:
        for start in range(0, _LARGE, _PIECE):
            piece = slice(start, start + _PIECE)
            update.apply(Piece(weights[piece], gradients[piece], (velocity[piece],)))

    return _rate(work, weights.nbytes)


def _rate(work: Callable[[], None], moved: int) -> float:
    taken = []
    for _ in range(1 + _REPETITIONS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return moved / statistics.median(taken[1:])  # the first one compiles and touches memory


def _machine(seats: Seats, times: Times, rates: _Rates) -> Machine:
    """Return the machine; its peak is the rate of its best kind of kernels."""
    found = {kind: rate for kind in KINDS if (rate := times.rate(kind)) is not None}
    best, least = max(found.values()), min(found.values())
    share = {f"{kind}_efficiency": found.get(kind, least) / best for kind in KINDS}
    return Machine(
        cores=seats.cores,
        flops_per_s=best * seats.cores,
        memory_bytes_per_s=rates.memory,
        memory_bytes=float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        ranks=seats.ranks_per_host,
        hosts=seats.hosts_per_machine,
        **share,
    )


def _channel(found: Pings | None, rates: _Rates) -> Channel:
    """Return the measured channel; without a pair of ranks, the memory's, as messages would be copies."""
    if found is None:
        return Channel(latency_s=0.0, bytes_per_s=rates.memory)
    return Channel(found.latency_s, found.bytes_per_s, found.message_s, found.processor_s_per_byte)


def _kernels(times: Times) -> tuple[Kernel, ...]:
    def median(passes: dict[str, list[float]], direction: str) -> float:
        return statistics.median(passes[direction]) if direction in passes else 0.0

    return tuple(
        Kernel(layer, samples, threads, *(median(passes, direction) for direction in PASSES))
        for (layer, samples, threads), passes in sorted(times.passes.items())
    )


def _description(seats: Seats) -> str:
    machines = counted(len(set(seats.machines)), "machine")
    hosts, ranks = counted(seats.hosts_per_machine, "host"), counted(seats.ranks_per_host, "rank")
    today = time.strftime("%Y-%m-%d")
    return f"{machines} of {counted(seats.cores, 'core')}, {hosts} each with {ranks}; measured {today}"
