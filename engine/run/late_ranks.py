"""A line when a rank has kept the others waiting for long, and the end of one that is stopped for longer."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from comm import terminal
from comm.comm_thread import CommandQueue
from comm.communicator import Communicator
from engine.host.affinity import machine_name
from engine.host.unpinned import run_anywhere

LATE_S = 10.0
_AGREEMENT = "an agreement"
POLL_S = 1.0


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
                stopped = self._stopped()
                if stopped is not None:
                    self._said = True
                    self._say(f"rank {self._rank} has waited {waited:.0f} s for {_named(stopped)}")
            if self._lost_after is not None and waited >= self._lost_after:
                self._end(self._stopped() or [], waited)

    def _stopped(self) -> list[int] | None:
        """Return the ranks here that are stopped, where it is for this one to speak of them."""
        stopped = [number for number, process in self._near.items() if process.is_stopped()]
        speaks = self._rank == min(number for number in self._near if number not in stopped)
        return stopped if speaks else None

    def _end(self, stopped: Sequence[int], waited: float) -> None:
        if stopped:
            self._say(f"{_which(stopped)} stopped for {waited:.0f} s: ended, and lost")
        for number in stopped:
            self._near[number].end()

    def _present_wait(self) -> tuple[str, float] | None:
        """Return what the main thread waits for, and what tells one wait for it from the next."""
        name = self._queue.awaited
        if name is not None:
            return name, self._queue.blocked_by_name.get(name, 0.0)
        if self._control is not None and self._control.is_waiting:
            return _AGREEMENT, float(self._control.waits)
        return None


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
    processes, over = world.gather_objects(Process.own()), threading.Event()
    watch = LateWatch(queue, world.rank, processes, say, control=world, lost_after=limit)

    def watching() -> None:
        run_anywhere()
        while not over.wait(POLL_S):
            watch.look(time.monotonic())

    with suppress(RuntimeError):  # where the system gives no thread, late ranks are waited for in silence
        threading.Thread(target=watching, name="late ranks", daemon=True).start()
    try:
        yield said
    finally:
        over.set()
