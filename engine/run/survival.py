"""What ranks that are left go on from when others die: who is left, and what their buddies have kept.

A loss shows as RankLostError in whatever a rank communicates by; the first that notices it revokes all
communication, so that all do. The ranks that are left then make a new communicator, take what the newest
generation of copies holds (`engine.training.buddies`), and train on as a run does that goes on from a
checkpoint. A rank may die while they do so: all begin anew, as `Communicator.agreed` says the same to all.
"""

import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from comm import failure, terminal
from comm.comm_thread import CommandQueue
from comm.communicator import Communicator
from comm.failure import INTERRUPTED
from comm.losses import RankLostError
from engine.config.wording import counted
from engine.host.stop_signals import end_others_by
from engine.training.buddies import Buddies, Recovered


@dataclass(frozen=True)
class Loss:
    """Ranks that have died together."""

    lost: dict[int, str]
    """Host by rank, as the ranks were numbered then."""
    left: int
    """Ranks that go on."""
    step: int | None
    """From which they go on; None: from the newest checkpoint on the disk, or from the beginning."""
    noticed: float
    """By `time.perf_counter`."""


class Survival:
    """One rank's part in it.

    Parameters
    ----------
    world
        All ranks.
    """

    def __init__(self, world: Communicator):
        self.world = world
        self.losses: list[Loss] = []
        self._told = 0
        self._hosts: list[str] = []
        self._queue: CommandQueue | None = None
        self._buddies: Buddies | None = None  # the newest

    @property
    def is_possible(self) -> bool:
        """Whether the ranks can go on without others."""
        return self.world.survives

    def begin(self) -> None:
        """Learn who the ranks are (collective)."""
        if self.is_possible:
            self._hosts = self.world.gather_objects(socket.gethostname())

    def watch(self, queue: CommandQueue, buddies: Buddies | None) -> None:
        """Note what this rank trains with from now on."""
        self._queue = queue
        if buddies is not None:
            buddies.losses, buddies.older = len(self.losses), self._buddies
            self._buddies = buddies

    def _held(self) -> dict[int, Buddies]:
        """Return the copies that count, by the losses before: the newest, and what they may not replace."""
        held, buddies = dict[int, Buddies](), self._buddies
        while buddies is not None:
            held[buddies.losses], buddies = buddies, buddies.older
        return held

    def recover(self, error: RankLostError) -> Recovered | None:
        """Go on among the ranks that are left, in a new `world` (collective among them).

        Return what they have in common; None where that is on the disk, or nothing.

        Raises
        ------
        RankLostError
            The one that is given: no rank has died, or the ranks cannot go on.
        """
        noticed, before = time.perf_counter(), self.world
        if not self.is_possible:
            raise error
        before.revoke()
        if self._queue is not None:
            self._queue.abandon(error)
            self._queue = None
        while True:
            after = before.survivors()
            if after.size == before.size:
                raise error
            try:
                numbers, recovered = self._take_stock(after)
                hosts = after.gather_objects(socket.gethostname())
                is_known = True
            except RankLostError:
                after.revoke()
                is_known = False
            if after.agreed(is_known):
                break
        known = self._hosts or ["a host"] * before.size  # nobody has said yet where the ranks are
        lost = {rank: known[rank] for rank in range(before.size) if rank not in numbers}
        self.world, self._hosts = after, hosts
        step = None if recovered is None else recovered.step
        self.losses.append(Loss(lost, after.size, step, noticed))
        failure.install(after)
        end_others_by(partial(after.abort, INTERRUPTED))
        return recovered

    def _take_stock(self, after: Communicator) -> tuple[list[int], Recovered | None]:
        """Return the former numbers of the ranks that are left, and what they have in common (collective)."""
        numbers = after.gather_objects(self.world.rank)
        held = self._held()
        everywhere = set.intersection(*map(set, after.gather_objects(list(held))))
        for number in sorted(everywhere, reverse=True):
            if (recovered := held[number].recovered(after)) is not None:
                return numbers, recovered
        return numbers, None

    def say(self, place: str) -> None:
        """Tell the user, on rank 0, of all losses that nobody could tell of yet."""
        untold, self._told = self.losses[self._told :], len(self.losses)
        if self.world.rank == 0:
            lost = [f"rank {rank} on {host}" for loss in untold for rank, host in loss.lost.items()]
            left, seconds = untold[-1].left, time.perf_counter() - untold[0].noticed
            go = "goes" if left == 1 else "go"
            terminal.say(
                f"lost {', then '.join(lost)}: {counted(left, 'rank')} {go} on from {place}, "
                f"after {seconds:.2f} s"
            )

    def ended(self, code: int) -> int:
        """Return the exit code of a run that is over; end the process here where ranks may die (collective).

        MPI_Finalize could wait for one of them for ever. But as mpirun ends all ranks when one has ended with
        an error, none does before rank 0 has said which.
        """
        if self.is_possible:
            terminal.flush()
            with suppress(RankLostError):
                self.world.gather_objects(None)
            os._exit(code)
        return code

    def records(self) -> list[dict[str, Any]]:
        """Return what `run.json` has of all losses."""
        return [
            {
                "ranks": list(loss.lost),
                "hosts": list(dict.fromkeys(loss.lost.values())),
                "left": loss.left,
                "step": loss.step,
            }
            for loss in self.losses
        ]
