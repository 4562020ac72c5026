"""The one place that turns signals into a wish to end: Ctrl-C, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU.

Slurm warns by SIGUSR1 before a job's limit, mpirun passes it on to its ranks, a closed terminal sends SIGHUP,
and the system SIGXCPU at a soft limit of CPU time, each second until the hard one; who started a program with
SIGHUP ignored, as nohup does, wants it to go on. Launchers repeat their signals, so repeated ones change
nothing; only a second Ctrl-C, a second after the first, is somebody who will not wait.

A command listens from its first line on. Before a run has its folder, a wish to end is granted at once: there
is nothing to save yet. The handler ends the process itself, as an exception could be raised, and swallowed,
anywhere in an import or in a library's callback. From then on wishes are held, until the ranks look for them
together.
"""

import atexit
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Enum, auto
from types import FrameType
from typing import NoReturn

from comm.failure import INTERRUPTED
from comm.launcher import launched_rank
from comm.losses import RankLostError
from comm.terminal import write_now
from engine.config.errors import Impatience

WISHES = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""Signals that are a wish to end."""

IMPATIENT_S = 1.0  # a Ctrl-C so long after the first is in earnest
_SILENCE_S = 1.0  # rank 0 speaks for all that got the same signal, unless it got none


class _Phase(Enum):
    START = auto()  # nothing is lost: end at once
    LOOP = auto()  # the ranks look at the request together
    OVER = auto()  # everything is saved


class StopRequest:
    """Whether a signal has asked this rank to stop."""

    def __init__(self, *, phase: _Phase = _Phase.LOOP) -> None:
        self.made = False
        self.phase = phase
        self.end_all: Callable[[], object] = lambda: None
        """Ends the other ranks too, where the launcher would not."""
        self._first_ctrl_c: float | None = None
        self._ending = False

    def answer(self, number: int, _frame: FrameType | None = None) -> None:
        """Take a signal, as its handler."""
        impatient = number == signal.SIGINT and self._is_impatient()
        self.made = True
        if self._ending:
            return
        if self.phase is _Phase.START:
            self.end_now()
        if impatient:
            self._ending = True
            raise Impatience

    def _is_impatient(self) -> bool:
        now = time.monotonic()
        if self._first_ctrl_c is None:
            self._first_ctrl_c = now
        return now - self._first_ctrl_c > IMPATIENT_S

    def end_now(self) -> NoReturn:
        """End the process, and the other ranks, with one line."""
        self._ending = True
        try:
            if launched_rank() != 0:
                time.sleep(_SILENCE_S)
            write_now("interrupted\n")
            self.end_all()
        finally:
            os._exit(INTERRUPTED)


def listen() -> None:
    """Take every wish to end from now on until the process has ended, as a command does first."""
    request = StopRequest(phase=_Phase.START)
    _install(request)
    # What is registered first runs last. The interpreter's own end would restore the defaults, which kill.
    atexit.register(_ignore, WISHES)


@contextmanager
def listening() -> Iterator[None]:
    """Listen for the time of a command inside another program; a process that listens goes on as it is."""
    if isinstance(_handled_by(), StopRequest):
        yield
        return
    with _answered_by(StopRequest(phase=_Phase.START)):
        yield


def end_others_by(end_all: Callable[[], object]) -> None:
    """Let a process that listens end the other ranks too when it is told to end at once."""
    request = _listening()
    if request is not None:
        request.end_all = end_all


def hold_wishes() -> None:
    """Let a process that listens note wishes to end from now on, for the run to find."""
    request = _listening()
    if request is not None:
        request.phase = _Phase.LOOP


def is_asked_to_end() -> bool:
    """Say whether a process that listens holds a wish to end."""
    request = _listening()
    return request is not None and request.made


def end_now() -> NoReturn:
    """End this process, which holds a wish or shares another rank's, as the wish alone would have done."""
    (_listening() or StopRequest()).end_now()


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Let signals set the stop request; a late second Ctrl-C raises KeyboardInterrupt.

    Afterwards a process that listens has saved everything, so that signals change nothing any more; others
    answer as before. Off the main thread (ranks as threads) signals are left alone.
    """
    request = _listening()
    if request is not None:
        request.phase = _Phase.LOOP
        try:
            yield request
        except RankLostError:  # the run goes on, and wishes with it
            raise
        except BaseException:
            request.phase = _Phase.OVER
            raise
        request.phase = _Phase.OVER
        return
    with _answered_by(StopRequest()) as request:
        yield request


@contextmanager
def _answered_by(request: StopRequest) -> Iterator[StopRequest]:
    try:
        old = _install(request)
    except ValueError:  # signals belong to the main thread
        yield request
        return
    try:
        yield request
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _listening() -> StopRequest | None:
    """Return the request of a process that listens and has saved nothing yet."""
    handler = _handled_by()
    return handler if isinstance(handler, StopRequest) and handler.phase is not _Phase.OVER else None


def _handled_by() -> object:
    """Return what answers signals: the handler is the only place that knows it."""
    return getattr(signal.getsignal(signal.SIGTERM), "__self__", None)


def _install(request: StopRequest) -> Mapping[int, "signal._HANDLER"]:
    """Answer all signals by a request; return their old handlers."""
    old: dict[int, signal._HANDLER] = {}
    for number in WISHES:
        before = signal.getsignal(number)
        if number == signal.SIGHUP and before is signal.SIG_IGN:
            continue
        signal.signal(number, request.answer)
        old[number] = before
    return old


def _ignore(numbers: tuple[signal.Signals, ...]) -> None:
    with suppress(ValueError):
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
