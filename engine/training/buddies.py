"""Copies of every rank's strips in the memory of others, its buddies, from which a run goes on without it.

After some steps each rank copies its own strips (weights, moments, averages: all that it alone has) and sends
the copy to its buddies, while the next forward pass runs. Two such generations are kept in turns. Before a
rank gives away gradients of a later step it waits until its part of the newest generation is whole, so a rank
that begins to write over the older one knows that all have the newer: the newest generation that all ranks
that are left have is one from which all of them can go on. `tests.kill` tries it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from comm.collectives import Collectives
from comm.comm_thread import AllOf, CommandQueue, Request
from comm.communicator import Communicator
from comm.grid import Grid
from comm.job import Job
from comm.scheduler import run_job
from comm.tree import Tree, next_power_of_two
from engine.host.aligned_arrays import aligned_zeros
from engine.training.bucket import cut
from engine.training.held import Held
from engine.training.layer_states import LayerStates
from engine.training.rank_parameters import RankParameters
from layers.layer import Array

_LAST = 1 << 30  # priority: only while no other message can go on its way
_NONE = -1
_NOTHING = np.empty(0, np.float32)
_SURE = 3  # generation: its step began with weights of a step for which all ranks had the first one


@dataclass(eq=False)
class Generation:
    """What a rank keeps of one step."""

    own: Array
    """Its strips, flat, as `RankParameters.shares` says."""
    held: dict[int, Array]
    """Those of the ranks whose buddy it is; in their memory where that can be read, which outlives them."""
    received: dict[int, Array]
    """What of these comes by messages; empty for the others."""
    step: int = _NONE
    """Updates done; -1: nothing is kept."""
    state: dict[str, Array] = field(default_factory=dict)
    """Of layers, as checkpoints name it; the same on all ranks."""
    progress: Any = None
    """What the run's loop knows; the same on all ranks."""
    request: Request | None = None
    """Of the last message."""

    @property
    def whole_step(self) -> int:
        """The step, where all of it has come; else -1."""
        ended = self.request is None or (self.request.has_ended() and not self.request.failed)
        return self.step if ended else _NONE


@dataclass(frozen=True)
class Recovered:
    """What all ranks that are left go on from."""

    step: int
    tensors: dict[str, Array | Held]
    """As a checkpoint has them."""
    progress: Any


class Buddies:
    """One rank's copies.

    Parameters
    ----------
    count
        Buddies of each rank, so many lost neighbours are survived; 0: nobody keeps anything.
    hosts
        What names the host of each rank: a buddy on another one is better.
    """

    def __init__(
        self,
        parameters: RankParameters,
        states: LayerStates,
        grid: Grid,
        queue: CommandQueue,
        *,
        count: int,
        hosts: Sequence[str],
    ):
        self._parameters, self._states, self._world, self._queue = parameters, states, grid.world, queue
        self._rank, self._ranks = grid.world.communicator.rank, grid.world.communicator.size
        distances = buddy_distances(hosts, count)
        self._buddies = [(self._rank + each) % self._ranks for each in distances]
        self._wards = [(self._rank - each) % self._ranks for each in distances]
        self._sizes = [parameters.shared_floats(rank) for rank in range(self._ranks)]
        self._generations = (self._allocate(), self._allocate())
        self._newest = self._submitted = 0
        self.losses = 0
        """How many times ranks had been lost before."""
        self.older: Buddies | None = None
        """Those of the ranks of before, until all are known to have a whole generation of these."""

    def _allocate(self) -> Generation:
        window = self._world.share(max(self._sizes))
        own, peers = (
            (aligned_zeros((max(self._sizes),)), {}) if window is None else (window.own, window.peers)
        )
        self._readers = frozenset(peers)
        received = {
            ward: _NOTHING if ward in peers else aligned_zeros((self._sizes[ward],)) for ward in self._wards
        }
        held = {
            ward: peers[ward][: self._sizes[ward]] if ward in peers else array
            for ward, array in received.items()
        }
        return Generation(own[: self._sizes[self._rank]], held, received)

    @property
    def bytes(self) -> int:
        """Bytes of all copies on this rank."""
        return sum(a.nbytes for each in self._generations for a in (each.own, *each.received.values()))

    @property
    def own_bytes(self) -> int:
        """Bytes of those of its own strips."""
        return sum(each.own.nbytes for each in self._generations)

    def submit(self, step: int, progress: Any) -> None:
        """Start copying what the ranks have after a step, and sending it to buddies.

        Parameters
        ----------
        progress
            Small and picklable, the same on all ranks.
        """
        self.wait()
        self._submitted += 1
        if self._submitted == _SURE:
            self.older = None
        self._newest = 1 - self._newest
        kept = self._generations[self._newest]
        kept.step = _NONE
        updates = self._parameters.pending()
        copied = self._queue.submit(
            self._copy(kept.own),
            name="copy strips",
            priority=_LAST,
            after=AllOf(updates) if updates else None,
        )
        self._parameters.hold_updates(copied)
        sent = {buddy: _NOTHING if buddy in self._readers else kept.own for buddy in self._buddies}
        job = self._world.pass_on(sent, kept.received)
        kept.request = self._queue.submit(job, name="send strips to buddies", priority=_LAST, after=copied)
        model, trained = self._states.saved()
        kept.state, kept.progress, kept.step = model | trained, progress, step

    def wait(self) -> None:
        """Wait until this rank's part of the newest generation is whole."""
        request = self._generations[self._newest].request
        if request is not None:
            request.wait()

    def _copy(self, flat: Array) -> Job:
        start = 0
        for array in self._parameters.shares():
            for piece in cut(slice(0, array.size)):
                np.copyto(flat[start + piece.start : start + piece.stop], array[piece])
                yield None
            start += array.size

    def recovered(self, survivors: Communicator) -> Recovered | None:
        """Return what the ranks that are left have in common, None where strips are lost (collective).

        All of them must have abandoned their queues.

        Parameters
        ----------
        survivors
            Those ranks.
        """
        whole = {each.whole_step: each for each in self._generations}
        known: list[tuple[int, int]] = survivors.gather_objects((self._rank, max(whole)))
        step = min(newest for _, newest in known)
        if not all(survivors.gather_objects(step in whole)):
            return None
        left = {old: new for new, (old, _) in enumerate(known)}
        wards: list[list[int]] = survivors.gather_objects(self._wards)
        sources = []
        for old in range(self._ranks):
            holders = [new for new, held in enumerate(wards) if old in held]
            sources.append(left.get(old, min(holders, default=_NONE)))
        if step == _NONE or _NONE in sources or not self._parameters.are_shared:
            return None
        kept = whole[step]
        among = Collectives(
            survivors.split(0),
            Tree.of(survivors.size, next_power_of_two(survivors.size)),
            shared_memory=False,
        )
        flats = []
        for old, source in enumerate(sources):
            flat = kept.own if old == self._rank else kept.held.get(old)
            if flat is None or source != survivors.rank:
                flat = aligned_zeros((self._sizes[old],))
            run_job(among.broadcast(flat, source))
            flats.append(flat)
        return Recovered(step, {**self._parameters.assembled(flats), **kept.state}, kept.progress)


def buddy_distances(hosts: Sequence[str], count: int) -> list[int]:
    """Return how many ranks behind a rank its buddies are: first what is most often another host."""

    def near(distance: int) -> int:
        return sum(host == hosts[(rank + distance) % len(hosts)] for rank, host in enumerate(hosts))

    return sorted(range(1, len(hosts)), key=lambda distance: (near(distance), distance))[:count]
