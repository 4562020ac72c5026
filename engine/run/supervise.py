"""mpirun and its ranks, kept away from the terminal's signals and ended by a wish that reaches every rank.

mpirun answers Ctrl-C, SIGTERM and SIGHUP by killing its ranks within half a second, too soon for a
checkpoint, and says nothing of it. But it passes SIGUSR1 on to all of them, which take it as a wish to end.
"""

import ctypes
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import IO

import psutil

from comm import terminal
from comm.failure import INTERRUPTED, say_error, say_interrupted
from engine.config.errors import UserError
from engine.host.mpirun import mpirun_environment
from engine.host.stop_signals import StopRequest, stop_signals

PATIENCE_S = 600.0  # for the step that the ranks are in, and their checkpoint
SILENT_PATIENCE_S = 20.0  # for ranks that have said nothing yet, and so have nothing to save
_POLL_S = 0.1
_KILL_S = 10.0  # mpirun ends its ranks sooner, or never
_PR_SET_PDEATHSIG = 1
_CODES = (0, 1, 2, INTERRUPTED)  # of a run

_RULE = re.compile(r"-{40,}\s*")  # mpirun's own words stand between two such lines
_LONGEST_NOTE = 30
_LATE_WORDS = re.compile(
    r"\[[^\]]+\] PMIX ERROR: PMIX_ERR_UNREACH .*\n?"
)  # of an mpirun whose ranks have gone
_SAID_BY_RANK = "exited with non-zero status"
_ENDED_BY_WISH = "exited on signal"
_REASON = re.compile("error|traceback|interrupted", re.IGNORECASE)


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
        process = _started(command)
        try:
            output = _Output(process, stop)
        except RuntimeError as error:  # as many threads as the system allows
            _end(process)
            for pipe in filter(None, (process.stdout, process.stderr)):
                pipe.close()
            raise UserError(f"run: {error}: the system allows no more of them here") from error
        try:
            _wait(process, stop, output)
        except KeyboardInterrupt:
            _end(process)
        output.close()
        if not stop.made:
            return _explained(process.returncode, output)
        code = _exit_code(process.returncode)
        if code < 128:
            return code
        if not output.said_interrupted:  # a rank that was not listening yet, or was killed
            say_interrupted()
        return INTERRUPTED


def _exit_code(status: int) -> int:
    return status if status >= 0 else 128 - status


def _explained(status: int, output: "_Output") -> int:
    """Return a run's exit code, mpirun's own being 1; see to it that there is a word about why."""
    code = _exit_code(status)
    if status == INTERRUPTED and not output.said_interrupted:  # a Ctrl-C met a rank before it was listening
        say_interrupted()
    elif code and not output.said_why:
        say_error(_ended_in_silence(status))
    elif code not in _CODES:
        say_error(f"run: mpirun ended with its exit code {code}; what it says above is why")
    return code if code in _CODES else 1


def _ended_in_silence(code: int) -> str:
    """Return what is said of an mpirun that has ended without a word."""
    how = f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
    return (
        f"run: mpirun {how}, and nobody has said why: a signal to mpirun or a rank does that; steps behind "
        "the last checkpoint are lost: go on with --resume"
    )


def _started(command: list[str]) -> "subprocess.Popen[str]":
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
            env=mpirun_environment(),
        )
    except OSError as error:  # not to be executed, or as many processes as the system allows
        raise UserError(f"run: {command[0]} cannot be started: {error.strerror}") from error


def _wait(process: "subprocess.Popen[str]", stop: StopRequest, output: "_Output") -> None:
    """Wait for the end of mpirun; pass a wish to end on, again if its ranks begin to speak only then.

    An mpirun that is just starting has no ranks yet to pass it on to.
    """
    patience, end_by, were_heard = 0.0, None, False
    while end_by is None or time.monotonic() < end_by:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S)
            return
        if stop.made and (end_by is None or (output.has_spoken and not were_heard)):
            were_heard = output.has_spoken
            patience = PATIENCE_S if were_heard else SILENT_PATIENCE_S
            end_by = time.monotonic() + patience
            process.send_signal(signal.SIGUSR1)
    terminal.say(f"the ranks have not ended {patience:.0f} s after they were asked to: mpirun ends them")
    _end(process)


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


def _wish_to_end_with_parent() -> None:
    """Let mpirun get a wish to end when the launcher is killed: nobody else could tell it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)


class _Output:
    """Passes on what the ranks print, without what mpirun adds to the words of a rank that has ended."""

    def __init__(self, process: "subprocess.Popen[str]", stop: StopRequest):
        self.said_interrupted = False
        self.said_why = False
        """Something that was passed on is the reason of an end."""
        self.has_spoken = False
        """A rank has said something."""
        self._stop = stop
        assert process.stdout is not None and process.stderr is not None
        self._streams = (process.stdout, process.stderr)
        self._threads = [
            threading.Thread(target=self._pass_on, args=(process.stdout, terminal.OUTPUT), daemon=True),
            threading.Thread(target=self._pass_errors_on, args=(process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Wait until all is passed on; not for ever, as a process that is left may hold the pipe open."""
        for thread, stream in zip(self._threads, self._streams, strict=True):
            thread.join(_KILL_S)
            if not thread.is_alive():
                stream.close()

    def _pass_on(self, lines: Iterable[str], output: terminal.Output) -> None:
        for line in lines:
            self.has_spoken = True
            output.write(line)
            output.flush()

    def _pass_errors_on(self, stream: IO[str]) -> None:
        self._pass_on(self._without_notes(stream), terminal.ERRORS)

    def _without_notes(self, stream: IO[str]) -> Iterator[str]:
        note: list[str] = []
        for line in stream:
            self.said_interrupted |= line.startswith("interrupted")
            is_rule = _RULE.fullmatch(line) is not None
            if not note and not is_rule:
                if not _LATE_WORDS.fullmatch(line):
                    self.said_why |= _REASON.search(line) is not None
                    yield line
                continue
            note.append(line)
            if len(note) > _LONGEST_NOTE or (is_rule and len(note) > 1):
                if not self._is_idle("".join(note)):
                    self.said_why = True
                    yield from note
                note = []
        yield from note

    def _is_idle(self, note: str) -> bool:
        """Say whether a note of mpirun's only repeats what a rank has said, or what the user wanted."""
        return _SAID_BY_RANK in note or (self._stop.made and _ENDED_BY_WISH in note)
