"""What launchers say of ranks and hosts that they have lost, as one clause for the user.

Each launcher has words of its own: Open MPI's mpirun, that of MPICH and Intel MPI (Hydra), and srun.
"""

import re
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress

_SIGNALS = {
    "Killed": "SIGKILL", "Terminated": "SIGTERM", "Segmentation fault": "SIGSEGV", "Bus error": "SIGBUS",
    "Aborted": "SIGABRT", "Illegal instruction": "SIGILL", "Hangup": "SIGHUP",
}  # fmt: skip
"""The names that srun gives to signals."""


def loss_in(lines: Iterable[str]) -> str | None:
    """Return which rank or host was lost and how, as "rank 1 on b was ended by SIGKILL"; None if none was.

    Of several the first one that is mentioned counts: the launcher itself ends the others. So none was lost
    where srun names one first that has ended itself.
    """
    text = _in_one_line(lines)
    found = [(match.start(), say(match)) for pattern, say in _LOSSES if (match := pattern.search(text))]
    ended = _EXITED.search(text)
    if not found or (ended is not None and ended.start() < min(found)[0]):
        return None
    return min(found)[1]


def exit_code_in(lines: Iterable[str]) -> int | None:
    """Return the exit code of the rank that has ended first, where srun says it; its own may be another."""
    text = _in_one_line(lines)
    ended = _EXITED.search(text)
    return int(ended["code"]) if ended is not None and loss_in([text]) is None else None


def is_about_a_loss(note: str) -> bool:
    """Say whether a launcher's line or note is about a rank or host that it has lost."""
    return _PART.search(note) is not None or loss_in(note.splitlines()) is not None


def _in_one_line(lines: Iterable[str]) -> str:
    return " ".join(word for line in lines for word in line.replace("=", " ").split())


def _by_signal(match: re.Match[str]) -> str:
    groups = match.groupdict()
    who = f"rank {groups['rank']}" if "rank" in groups else "a rank"
    return f"{who} on {groups['host']} was ended by {_signal(groups['signal'])}"


def _signal(text: str) -> str:
    if text.isdecimal():
        with suppress(ValueError):
            return signal.Signals(int(text)).name
        return f"signal {text}"
    return _SIGNALS.get(text, text)


def _out_of_memory(match: re.Match[str]) -> str:
    return f"rank {match['rank']} on {match['host']} was ended by Slurm: it had no more memory"


def _host(what: str) -> Callable[[re.Match[str]], str]:
    return lambda match: f"host {match['host']} {what}"


_EXITED = re.compile(r"srun: error: \S+: tasks? \S+: Exited with exit code (?P<code>\d+)")

_LOSSES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (  # Open MPI
        re.compile(
            r"process rank (?P<rank>\d+) with PID \d+ on node (?P<host>\S+) exited on signal (?P<signal>\d+)"
        ),
        _by_signal,
    ),
    (
        re.compile(r"lost communication with a remote daemon.*?Remote daemon: \S+ on node (?P<host>\S+)"),
        _host("is lost"),
    ),
    (
        re.compile(r"daemon failed to report back after being spawned.*?Remote host: (?P<host>\S+)"),
        _host("cannot be reached"),
    ),
    (  # Intel MPI
        re.compile(r"RANK (?P<rank>\d+) PID \d+ RUNNING AT (?P<host>\S+) KILLED BY SIGNAL: (?P<signal>\d+)"),
        _by_signal,
    ),
    (  # MPICH, which does not say which rank
        re.compile(
            r"PROCESSES PID \d+ RUNNING AT (?P<host>\S+) EXIT CODE.*?"
            r"EXIT STRING: [^(]*\(signal (?P<signal>\d+)\)"
        ),
        _by_signal,
    ),
    (
        re.compile(rf"srun: error: (?P<host>\S+): tasks? (?P<rank>\d+)\S*: (?P<signal>{'|'.join(_SIGNALS)})"),
        _by_signal,
    ),
    (
        re.compile(r"srun: error: (?P<host>\S+): tasks? (?P<rank>\d+)\S*: Out Of Memory"),
        _out_of_memory,
    ),
    (re.compile(r"srun: error: Node failure on (?P<host>\S+)"), _host("is lost")),
)

_PART = re.compile(
    r"BAD TERMINATION OF ONE OF YOUR APPLICATION|YOUR APPLICATION TERMINATED WITH THE EXIT STRING|"
    r"This typically refers to a problem with your application|"
    r"Please see the FAQ page for debugging suggestions|"
    r"srun: error: \S+: tasks? \S+: Exited with exit code|"
    r"srun: (Job step aborted|Force Terminated|Terminating StepId|launch/slurm: _step_signal)|"
    r"slurmstepd\S*: error: \*\*\* STEP"
)
"""What Hydra and srun add to it."""
