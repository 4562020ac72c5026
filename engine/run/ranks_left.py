"""How many ranks a run can be started with again, and where: the hosts that still answer."""

import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from engine.config.wording import counted
from engine.host.mpirun import host_name, mpirun_environment, slots_of

_ANSWER_S = 30.0  # for a host to run a program that does nothing

Launch = Callable[[int, str], list[str]]
"""The launcher's command for a number of ranks on hosts ("" where none were named); a program follows."""


@dataclass(frozen=True)
class RanksLeft:
    """Ranks that can be started, and where."""

    ranks: int
    hosts: str
    silent: tuple[str, ...] = ()
    """Hosts that were given and do not answer."""

    def words(self, wanted: int) -> str:
        """Return what is said of fewer ranks than were wanted; "" where all are left."""
        if not self.silent:
            return ""
        names = ", ".join(self.silent)
        verb = "does" if len(self.silent) == 1 else "do"
        return f"{names} {verb} not answer: {self.ranks} of {counted(wanted, 'rank')} left"


def _answering(commands: Mapping[str, list[str]]) -> set[str]:
    """Start a command a host, all at once; return the hosts whose command ended well in time."""
    started = {}
    for name, command in commands.items():
        with suppress(OSError):
            started[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True, env=mpirun_environment(),
            )  # fmt: skip
    answering = set()
    for name, process in started.items():
        try:
            if process.wait(_ANSWER_S) == 0:
                answering.add(name)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return answering


@dataclass(frozen=True)
class Placement:
    """The ranks that the user wants, and where.

    The hosts are asked again each time, so that one that has come back is used again.
    """

    ranks: int
    hosts: str
    launch: Launch
    launcher: str = "mpirun"
    """What starts the ranks, for messages."""
    parts: int = 1
    """Ranks that share layers by the run's plan: their number must be a multiple of it."""
    answers: Callable[[Mapping[str, list[str]]], set[str]] = _answering
    """Returns the hosts whose command succeeds."""

    def command(self, left: RanksLeft, program: list[str]) -> list[str]:
        """Return the whole command that starts a program on what is left."""
        return [*self.launch(left.ranks, left.hosts), *program]

    def all(self) -> RanksLeft:
        """Return all that was wanted."""
        return RanksLeft(self.ranks, self.hosts)

    def left(self) -> RanksLeft:
        """Return what is left: on one host, or where none were named, all of it."""
        if not self.hosts:
            return self.all()
        slots = slots_of(self.hosts, self.ranks)
        answering = self.answers({name: [*self.launch(1, name), "true"] for name in slots})
        silent = tuple(name for name in slots if name not in answering)
        if not silent:
            return self.all()
        room = sum(count for name, count in slots.items() if name in answering)
        ranks = min(self.ranks, room)
        if ranks >= self.parts:
            ranks -= ranks % self.parts
        entries = [entry for entry in self.hosts.split(",") if host_name(entry) in answering]
        return RanksLeft(ranks, ",".join(entries), silent)
