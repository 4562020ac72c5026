"""A line when a rank has kept the others waiting for long, and another when they go on."""

import os
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

    Of the ranks that see each other's processes the first that is not stopped speaks.
    """

    def __init__(
        self,
        queue: CommandQueue,
        rank: int,
        processes: Sequence[Process],
        say: Callable[[str], None] = terminal.say,
    ):
        self._queue, self._rank, self._say = queue, rank, say
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
        elif wait is not None and not self._said and now - self._since >= LATE_S:
            stopped = [number for number, process in self._near.items() if process.is_stopped()]
            if self._rank == min(number for number in self._near if number not in stopped):
                self._said = True
                self._say(f"rank {self._rank} has waited {now - self._since:.0f} s for {_named(stopped)}")

    def _present_wait(self) -> tuple[str, float] | None:
        """Return the job that the main thread waits for, and the waits for it that are over."""
        name = self._queue.awaited
        return None if name is None else (name, self._queue.blocked_by_name.get(name, 0.0))


def _named(stopped: list[int]) -> str:
    if not stopped:
        return "a rank that is late; none that can be seen from here is stopped"
    which = f"rank {stopped[0]}, which is" if len(stopped) == 1 else f"ranks {_listed(stopped)}, which are"
    return f"{which} stopped (SIGCONT lets it go on)"


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


@contextmanager
def late_ranks_said(queue: CommandQueue, world: Communicator) -> Iterator[list[str]]:
    """Watch this rank's waits inside the `with` (collective); its value grows by every line that is said."""
    said = list[str]()
    if world.size == 1:
        yield said
        return

    def say(line: str) -> None:
        said.append(line)
        terminal.say(line)

    watch, over = LateWatch(queue, world.rank, world.gather_objects(Process.own()), say), threading.Event()

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
