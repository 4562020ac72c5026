"""mpirun and its ranks, kept away from the terminal's signals and ended by a wish that reaches every rank.

mpirun answers Ctrl-C, SIGTERM and SIGHUP by killing its ranks within half a second, too soon for a
checkpoint, and says nothing of it. But it passes SIGUSR1 on to all of them, which take it as a wish to end.
"""

import ctypes
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

import psutil

from comm import terminal
from comm.failure import INTERRUPTED, say_error, say_interrupted
from engine.config.errors import UserError
from engine.host.mpirun import FAULT_TOLERANCE, mpirun_environment
from engine.host.stop_signals import StopRequest, stop_signals
from engine.run import endings
from engine.run.losses import exit_code_in, is_about_a_loss, loss_in

PATIENCE_S = 600.0  # for the step that the ranks are in, and their checkpoint
SILENT_PATIENCE_S = 20.0  # for ranks that have said nothing yet, and so have nothing to save
_POLL_S = 0.1
_LOOK_S = 2.0
_UNNOTICED_S = 10.0  # mpirun notices the end of its last rank within a second, or never
_KILL_S = 10.0  # mpirun ends its ranks sooner, or never
_PR_SET_PDEATHSIG = 1
_CODES = (0, 1, 2, INTERRUPTED)  # of a run

_RULE = re.compile(r"(-{40,}|={40,})\s*")  # mpirun's own words stand between two such lines
_LONGEST_NOTE = 30
_LINES_KEPT = 200
_LATE_WORDS = re.compile(
    r"\[[^\]]+\] PMIX ERROR: PMIX_ERR_UNREACH .*\n?"
)  # of an mpirun whose ranks have gone
_SAID_BY_RANK = ("exited with non-zero status", "MPI_ABORT was invoked")
_ENDED_BY_WISH = "exited on signal"
_REASON = re.compile("error|traceback|interrupted", re.IGNORECASE)
_EXCEPTION = re.compile(r"(rank \d+: )?(\w+\.)*\w*(Error|Exception)\b")


@dataclass(frozen=True)
class End:
    """How mpirun has ended, and what was said before."""

    status: int
    """Its exit code; minus the number of the signal that ended it."""
    was_asked: bool
    """By a wish of the user's."""
    said_interrupted: bool
    said_why: bool
    """Something that was passed on is the reason of an end."""
    lost: str | None
    """What mpirun says of a rank or a host that it has lost, as a clause; None if it says nothing, or if the
    others have gone on to the end."""
    error: str | None
    """The last line with which a rank has named an exception."""


def supervise(command: list[str]) -> int:
    """Run mpirun with its ranks until all have ended; return the run's exit code.

    A wish to end is passed on to all ranks, once. A second Ctrl-C, later than a second after the first, or a
    run that has not ended long after the wish, ends mpirun.

    Raises
    ------
    UserError
        mpirun or a thread cannot be started.
    """
    with stop_signals() as stop:
        end = run_ranks(command, stop)
    return exit_code_of_wish(end) if end.was_asked else explained(end)


def run_ranks(
    command: list[str],
    stop: StopRequest,
    *,
    hides_losses: bool = False,
    more_environment: Mapping[str, str] | None = None,
) -> End:
    """Run mpirun until it has ended, as `supervise` does, and return how.

    Parameters
    ----------
    hides_losses
        What mpirun says of lost ranks and hosts is not passed on, and what is left of its processes on this
        machine is ended: somebody else says it, and starts others.
    """
    process = _started(command, more_environment or {})
    try:
        output = _Output(process, stop, hides_losses=hides_losses)
    except RuntimeError as error:  # as many threads as the system allows
        _end(process)
        for pipe in filter(None, (process.stdout, process.stderr)):
            pipe.close()
        raise UserError(f"run: {error}: the system allows no more of them here") from error
    try:
        _wait(process, stop, output)
    except KeyboardInterrupt:
        _end(process)
    if hides_losses:
        _end_session(process.pid)
    output.close()
    lost = None if output.said_end else loss_in(output.lines)
    if lost is None and process.returncode == 0 and _may_lose_all(command) and not output.said_end:
        lost = "all ranks have died"  # of which such an mpirun says nothing
    ended = exit_code_in(output.lines)
    status = process.returncode if ended is None or process.returncode == 0 else ended
    return End(status, stop.made, output.said_interrupted, output.said_why, lost, output.last_error)


def _may_lose_all(command: list[str]) -> bool:
    """Say whether ranks go on when others die, so that those that are left are waited for."""
    return FAULT_TOLERANCE[0] in command


def exit_code_of_wish(end: End) -> int:
    """Return the exit code of a run that was asked to end; see to it that there is a word about it."""
    code = exit_code(end.status)
    have_all_died = code == 0 and end.lost is not None  # of a wish that came before they were listening
    if code < 128 and not have_all_died:
        return code
    if not end.said_interrupted:  # a rank that was not listening yet, or was killed
        say_interrupted()
    return INTERRUPTED


def exit_code(status: int) -> int:
    """Return what a shell calls a process's end: its exit code, or 128 and the signal that ended it."""
    return status if status >= 0 else 128 - status


def explained(end: End) -> int:
    """Return a run's exit code, mpirun's own being 1; see to it that there is a word about why."""
    code = exit_code(end.status)
    if end.status == INTERRUPTED and not end.said_interrupted:  # a Ctrl-C met a rank that was not listening
        say_interrupted()
    elif code and not end.said_why:
        say_error(_ended_in_silence(end.status))
    elif code not in _CODES:
        say_error(f"run: mpirun ended with its exit code {code}; what it says above is why")
    if code == 0 and end.lost is not None:  # Open MPI's mpirun that has lost a host
        say_error(f"run: {end.lost}; steps behind the last checkpoint are lost: go on with --resume")
        return 1
    return code if code in _CODES else 1


def _ended_in_silence(code: int) -> str:
    """Return what is said of an mpirun that has ended without a word."""
    return (
        f"run: mpirun {how_it_ended(code)}, and nobody has said why: a signal to mpirun or a rank does that; "
        "steps behind the last checkpoint are lost: go on with --resume"
    )


def how_it_ended(status: int) -> str:
    """Return the words for a process's exit code, or for the signal that ended it."""
    return f"ended with exit code {status}" if status >= 0 else f"was ended by {signal.Signals(-status).name}"


def _started(command: list[str], more: Mapping[str, str]) -> "subprocess.Popen[str]":
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            start_new_session=True,  # the terminal's Ctrl-C is not for mpirun
            preexec_fn=_wish_to_end_with_parent,  # noqa: PLW1509 -- no other thread runs yet
            env={**mpirun_environment(), **more},
        )
    except OSError as error:  # not to be executed, or as many processes as the system allows
        raise UserError(f"run: {command[0]} cannot be started: {error.strerror}") from error


def _wait(process: "subprocess.Popen[str]", stop: StopRequest, output: "_Output") -> None:
    """Wait for the end of mpirun; pass a wish to end on, again if its ranks begin to speak only then.

    An mpirun that is just starting has no ranks yet to pass it on to.
    """
    patience, end_by, were_heard = 0.0, None, False
    started = _Started(process.pid)
    while end_by is None or time.monotonic() < end_by:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S)
            return
        if started.have_ended():
            terminal.say("mpirun has not noticed that all that it started has ended: it is ended, too")
            _end(process)
            return
        if stop.made and (end_by is None or (output.has_spoken and not were_heard)):
            were_heard = output.has_spoken
            patience = PATIENCE_S if were_heard else SILENT_PATIENCE_S
            end_by = time.monotonic() + patience
            process.send_signal(signal.SIGUSR1)
    terminal.say(f"the ranks have not ended {patience:.0f} s after they were asked to: mpirun ends them")
    _end(process)


class _Started:
    """What mpirun has started on this machine: its ranks, or what starts them elsewhere."""

    def __init__(self, mpirun: int):
        self._mpirun, self._were_there, self._gone_since = mpirun, False, math.inf
        self._next_look = 0.0

    def have_ended(self) -> bool:
        """Say whether all have ended some time ago; what nobody has waited for has ended, too."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_S
            are_there = self._are_there()
            self._were_there |= are_there
            is_gone = self._were_there and not are_there
            self._gone_since = min(now, self._gone_since) if is_gone else math.inf
        return now > self._gone_since + _UNNOTICED_S

    def _are_there(self) -> bool:
        with suppress(psutil.Error):
            for each in psutil.Process(self._mpirun).children(recursive=True):
                with suppress(psutil.Error):
                    if each.status() != psutil.STATUS_ZOMBIE:
                        return True
            return False
        return True  # nothing can be said


def _end(process: "subprocess.Popen[str]") -> None:
    """End mpirun and all that it has started here."""
    started = [psutil.Process(process.pid)]
    with suppress(psutil.Error):
        started += started[0].children(recursive=True)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_KILL_S)
    for each in started:
        with suppress(psutil.Error):
            each.kill()
    process.wait()


def _end_session(leader: int) -> None:
    """End what is left on this machine of the processes that mpirun has started, though it has ended."""
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != leader and os.getsid(process.pid) == leader:
                process.kill()
                left.append(process)
    psutil.wait_procs(left, timeout=_KILL_S)


def _wish_to_end_with_parent() -> None:
    """Let mpirun get a wish to end when the launcher is killed: nobody else could tell it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)


class _Output:
    """Passes on what the ranks print, without what mpirun adds to the words of a rank that has ended."""

    def __init__(self, process: "subprocess.Popen[str]", stop: StopRequest, *, hides_losses: bool):
        self.said_interrupted = False
        self.said_why = False
        """Something that was passed on is the reason of an end."""
        self.said_end = False
        """Rank 0 has said that the run is over."""
        self.has_spoken = False
        """A rank has said something."""
        self.last_error: str | None = None
        self.lines: deque[str] = deque(maxlen=_LINES_KEPT)
        """The last ones, passed on or not."""
        self._stop, self._hides_losses = stop, hides_losses
        assert process.stdout is not None and process.stderr is not None
        self._streams = (process.stdout, process.stderr)
        outputs = (terminal.OUTPUT, terminal.ERRORS)
        self._threads = [
            threading.Thread(target=self._pass_on, args=each, daemon=True)
            for each in zip(self._streams, outputs, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Wait until all is passed on; not for ever, as a process that is left may hold the pipe open."""
        for thread, stream in zip(self._threads, self._streams, strict=True):
            thread.join(_KILL_S)
            if not thread.is_alive():
                stream.close()

    def _pass_on(self, stream: IO[str], output: terminal.Output) -> None:
        for line in self._without_notes(stream, are_errors=output is terminal.ERRORS):
            self.has_spoken = True
            output.write(line)
            output.flush()

    def _without_notes(self, stream: Iterable[str], *, are_errors: bool) -> Iterator[str]:
        note: list[str] = []
        for line in stream:
            self.lines.append(line)
            self.said_interrupted |= are_errors and line.startswith("interrupted")
            self.said_end |= are_errors and line.startswith((endings.DONE, endings.STOPPED_EARLY))
            is_rule = _RULE.fullmatch(line) is not None
            if not note and not is_rule:
                if are_errors:
                    self._notice_reason(line)
                if not self._is_idle_line(line):
                    yield line
                continue
            note.append(line)
            if len(note) > _LONGEST_NOTE or (is_rule and len(note) > 1):
                if not self._is_idle("".join(note)):
                    self.said_why = True
                    yield from note
                note = []
        yield from note

    def _notice_reason(self, line: str) -> None:
        if _LATE_WORDS.fullmatch(line):
            return
        self.said_why |= _REASON.search(line) is not None
        if _EXCEPTION.match(line):
            self.last_error = line.strip()

    def _is_idle_line(self, line: str) -> bool:
        return _LATE_WORDS.fullmatch(line) is not None or (self._hides_losses and is_about_a_loss(line))

    def _is_idle(self, note: str) -> bool:
        """Say whether a note of mpirun's only repeats what a rank has said, or what the user wanted."""
        if self._hides_losses and is_about_a_loss(note):
            return True
        return any(words in note for words in _SAID_BY_RANK) or (self._stop.made and _ENDED_BY_WISH in note)
