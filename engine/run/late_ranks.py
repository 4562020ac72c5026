"""A line when a rank has kept the others waiting for long, and the end of one that is stopped for longer."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from comm import terminal
from comm.comm_thread import CommandQueue
from comm.communicator import Communicator
from comm.launcher import launched_job, launched_rank
from engine.config.recipe import Recipe
from engine.host.affinity import machine_name
from engine.run.looking import looking

LATE_S = 10.0
_AGREEMENT = "an agreement"


@dataclass(frozen=True)
class Process:
    """The process of a rank, and where its number means something."""

    machine: str
    namespace: str
    number: int

    @classmethod
    def own(cls) -> "Process":
        """Return this process."""
        namespace = socket.gethostname()
        with suppress(OSError):
            namespace = str(Path("/proc/self/ns/pid").readlink())
        return cls(machine_name(), namespace, os.getpid())

    def is_near(self, other: "Process") -> bool:
        """Say whether the other process can be looked at from here."""
        return (self.machine, self.namespace) == (other.machine, other.namespace)

    def end(self) -> None:
        """Kill it."""
        with suppress(OSError):
            os.kill(self.number, signal.SIGKILL)

    def is_stopped(self) -> bool:
        """Say whether somebody has stopped it, by SIGSTOP or a debugger; False where that is not known."""
        if sys.platform != "linux":
            return False
        with suppress(OSError, IndexError):
            status = Path(f"/proc/{self.number}/stat").read_text(errors="replace")
            return status.rpartition(")")[2].split()[0] in ("T", "t")
        return False


def ranks_here() -> dict[int, Process]:
    """Return the processes on this host that the launcher has started as ranks of this job, by their rank."""
    job, own = launched_job(), Process.own()
    if job is None:
        return {}
    found: dict[int, tuple[int, int]] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            environment = process.environ()
            if launched_job(environment) == job:
                found[process.pid] = process.ppid(), launched_rank(environment)
    # What ranks start has their environment.
    return {rank: replace(own, number=pid) for pid, (parent, rank) in found.items() if parent not in found}


class StoppedWatch:
    """Watches how long this rank has been waiting for others before and after its training loop.

    Only ranks that are stopped are spoken of: others may have more to do there, such as checking data.

    Parameters
    ----------
    world
        Returns the ranks as they are now.
    here
        Returns the processes of this host's ranks, found without asking them.
    rank
        This one's among them; as the launcher has numbered it.
    """

    def __init__(
        self,
        world: Callable[[], Communicator],
        say: Callable[[str], None] = terminal.say,
        *,
        here: Callable[[], Mapping[int, Process]] = ranks_here,
        rank: int | None = None,
    ):
        self._world, self._say, self._here = world, say, here
        self._rank = launched_rank() if rank is None else rank  # a number that stays when others are lost
        self.lost_after = Recipe.lost_after
        """Seconds after which stopped ranks are ended, where the others can go on without them; 0: never."""
        self._is_paused = False
        self._wait: tuple[int, int] | None = None
        self._since = 0.0
        self._said = False

    def look(self, now: float) -> None:
        """Speak, or end who is stopped, if a wait has become long."""
        world = self._world()
        waits = world.waits
        wait = (id(waits), waits.count) if waits.is_one and not self._is_paused else None
        if wait != self._wait:
            self._wait, self._since, self._said = wait, now, False
        elif wait is not None:
            waited = now - self._since
            ends = world.survives and 0 < self.lost_after <= waited
            if ends or (waited >= LATE_S and not self._said):
                self._speak(waited, ends=ends)

    def _speak(self, waited: float, *, ends: bool) -> None:
        here = self._here()
        stopped = _stopped(here, self._rank)
        if not stopped:
            return
        if not self._said and waited >= LATE_S:
            self._said = True
            self._say(f"rank {self._rank} has waited {waited:.0f} s for {_named(stopped)}")
        if ends:
            _end(here, stopped, waited, self._say)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Look away inside the `with`: a `LateWatch` looks there."""
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look from a thread inside the `with`, where there are other ranks."""
        if self._world().size == 1:
            yield
            return
        with looking(self.look, "late ranks"):
            yield


class LateWatch:
    """Watches how long this rank's main thread has been waiting for the same job; the loop has no part in it.

    Of the ranks that see each other's processes the first that is not stopped speaks, and acts.

    Parameters
    ----------
    control
        Of the main thread's agreements, in which it waits, too.
    lost_after
        Seconds of waiting after which ranks that are stopped are ended, as the others go on without them;
        None: never.
    """

    def __init__(
        self,
        queue: CommandQueue,
        rank: int,
        processes: Sequence[Process],
        say: Callable[[str], None] = terminal.say,
        *,
        control: Communicator | None = None,
        lost_after: float | None = None,
    ):
        self._control = control
        self._queue, self._rank, self._say, self._lost_after = queue, rank, say, lost_after
        self._near = {
            number: process for number, process in enumerate(processes) if process.is_near(processes[rank])
        }
        self._wait: tuple[str, float] | None = None
        self._since = 0.0
        self._said = False

    def look(self, now: float) -> None:
        """Speak, if a wait has become long or a long one is over."""
        wait = self._present_wait()
        if wait != self._wait:
            if self._said:
                self._say(f"rank {self._rank} goes on after {now - self._since:.0f} s")
            self._wait, self._since, self._said = wait, now, False
        elif wait is not None:
            waited = now - self._since
            if not self._said and waited >= LATE_S:
                stopped = _stopped(self._near, self._rank)
                if stopped is not None:
                    self._said = True
                    self._say(f"rank {self._rank} has waited {waited:.0f} s for {_named(stopped)}")
            if self._lost_after is not None and waited >= self._lost_after:
                _end(self._near, _stopped(self._near, self._rank) or [], waited, self._say)

    def _present_wait(self) -> tuple[str, float] | None:
        """Return what the main thread waits for, and what tells one wait for it from the next."""
        name = self._queue.awaited
        if name is not None:
            return name, self._queue.blocked_by_name.get(name, 0.0)
        if self._control is not None and self._control.waits.is_one:
            return _AGREEMENT, float(self._control.waits.count)
        return None


def _stopped(near: Mapping[int, Process], rank: int) -> list[int] | None:
    """Return the ranks here that are stopped, where it is for this one to speak of them."""
    stopped = [number for number, process in sorted(near.items()) if process.is_stopped()]
    speaks = rank == min((number for number in near if number not in stopped), default=None)
    return stopped if speaks else None


def _end(
    near: Mapping[int, Process], stopped: Sequence[int], waited: float, say: Callable[[str], None]
) -> None:
    if stopped:
        say(f"{_which(stopped)} stopped for {waited:.0f} s: ended, and lost")
    for number in stopped:
        near[number].end()


def _named(stopped: list[int]) -> str:
    if not stopped:
        return "a rank that is late; none that can be seen from here is stopped"
    which = _which(stopped)
    return f"{which}, which {'is' if len(stopped) == 1 else 'are'} stopped (SIGCONT lets it go on)"


def _which(numbers: Sequence[int]) -> str:
    return f"rank {numbers[0]}" if len(numbers) == 1 else f"ranks {_listed(numbers)}"


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


@contextmanager
def late_ranks_said(
    queue: CommandQueue, world: Communicator, *, lost_after: float = 0.0
) -> Iterator[list[str]]:
    """Watch this rank's waits inside the `with` (collective); its value grows by every line that is said.

    Parameters
    ----------
    lost_after
        See `LateWatch`, where the ranks can go on without others; 0: never.
    """
    said = list[str]()
    if world.size == 1:
        yield said
        return

    def say(line: str) -> None:
        said.append(line)
        terminal.say(line)

    limit = lost_after if world.survives and lost_after > 0 else None
    processes = world.gather_objects(Process.own())
    watch = LateWatch(queue, world.rank, processes, say, control=world, lost_after=limit)
    with looking(watch.look, "late ranks"):
        yield said
