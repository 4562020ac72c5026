"""A run that is started again after a failure that is not the user's, from its newest whole checkpoint.

The ranks end together when one is lost (mpirun and srun see to that), so a restart is the same command with
``--resume``, and ends with the bits of a run in which nothing failed.
"""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from comm import terminal
from comm.failure import INTERRUPTED, say_error, say_interrupted
from engine.config.errors import UserError
from engine.config.wording import counted
from engine.graph.parallel.plan import DATA, Plan
from engine.host.memory_limit import processes_killed_for_memory
from engine.host.stop_signals import StopRequest, stop_signals
from engine.run.kept_checkpoints import checkpoints_of, step_of
from engine.run.ranks_left import Placement, RanksLeft
from engine.run.start import Start
from engine.run.supervise import End, exit_code, exit_code_of_wish, explained, how_it_ended, run_ranks
from engine.run.supervised_folder import SupervisedFolder

LONGEST_WAIT_S = 60.0
_SETTLE_S = (
    120.0  # for ranks of a lost host to let go of the run's folder: file systems in a network take as long
)
_POLL_S = 0.1


@dataclass(frozen=True)
class Restarts:
    """How often a run is started again, and with how many ranks at least."""

    most: int
    """Between two checkpoints: each new one begins the count anew."""
    min_ranks: int = 1


@dataclass(frozen=True)
class Command:
    """What is started."""

    train: list[str]
    """Python with the command that trains, to be followed by its arguments."""
    arguments: list[str]
    """Those that the user gave."""
    start: Start
    """What they mean."""


def wait_before(count: int) -> float:
    """Return the seconds before a restart: 1, 2, 4 and so on up to a minute."""
    return min(2.0 ** (count - 1), LONGEST_WAIT_S)


def parts_of(start: Start) -> int:
    """Return how many ranks share layers by a run's plan."""
    return 1 if start.recipe.plan == "auto" else Plan.parse(start.recipe.plan).parts


def supervise_with_restarts(command: Command, placement: Placement, restarts: Restarts) -> int:
    """Run a command on its ranks until it is done; return its exit code.

    Raises
    ------
    UserError
        The run's folder cannot be made or written, or the launcher cannot be started.
    """
    folder = SupervisedFolder.of(command.start)
    with stop_signals() as stop:
        try:
            return _Supervisor(command, placement, restarts, folder, stop).run()
        except _OverError as over:
            return over.code
        except KeyboardInterrupt:  # a second Ctrl-C, between two starts
            say_interrupted()
            return INTERRUPTED
        finally:
            folder.tidy()


class _OverError(Exception):
    """The run is not started again."""

    def __init__(self, code: int):
        self.code = code


@dataclass(frozen=True)
class _Failure:
    """Why ranks have ended, and how far they had come."""

    cause: str
    step: int
    """The last one of which all ranks knew the loss; 0 for none."""
    is_error: bool
    """An exception, which may come again in the same place."""

    def __str__(self) -> str:
        return (
            f"{self.cause} {f'after step {self.step}' if self.step else 'before the end of its first step'}"
        )


class _Supervisor:
    """Starts a run, again and again; knows what has happened so far."""

    def __init__(
        self,
        command: Command,
        placement: Placement,
        restarts: Restarts,
        folder: SupervisedFolder,
        stop: StopRequest,
    ):
        self._command, self._placement, self._restarts = command, placement, restarts
        self._folder, self._stop = folder, stop
        self._count = 0
        self._reached = 0  # the step of the checkpoint that was the newest at the last failure
        self._last: _Failure | None = None

    def run(self) -> int:
        """Run until the end that is the last one; return the exit code."""
        left = self._placement.all()
        arguments = self._first_arguments()
        while True:
            killed_before = processes_killed_for_memory()
            program = [*self._command.train, *arguments]
            end = run_ranks(self._placement.command(left, program), self._stop, hides_losses=True)
            self._end_if_last(end)
            failure = self._failure_of(end, killed_before)
            checkpoint = self._newest()
            self._end_if_repeated(failure)
            left = self._wait(failure, checkpoint)
            if checkpoint is None:
                self._folder.clear()
                arguments = self._first_arguments()
            else:
                arguments = self._arguments_from(checkpoint)
            if left.ranks % self._placement.parts:
                arguments = [*arguments, "--plan", DATA]

    def _first_arguments(self) -> list[str]:
        named = ["--out", str(self._folder.path)] if self._folder.is_made else []
        return [*self._command.arguments, *named]

    def _arguments_from(self, checkpoint: Path) -> list[str]:
        """Return the arguments to go on: the run's folder holds its recipe, but for the place of a trace."""
        trace = self._command.start.recipe.trace
        return ["--resume", str(checkpoint), *(["--trace", trace] if trace else [])]

    def _end_if_last(self, end: End) -> None:
        """End where the run is done, or ends by the user's mistake or wish."""
        code = exit_code(end.status)
        if self._stop.made:
            if code not in (0, 2, INTERRUPTED) and end.lost is not None:
                say_error(f"run: {end.lost}; {self._how_to_go_on()}")
            raise _OverError(exit_code_of_wish(end))
        if code == INTERRUPTED or (code in (0, 2) and end.lost is None):
            raise _OverError(explained(end))

    def _failure_of(self, end: End, killed_before: int) -> _Failure:
        cause = end.lost or end.error or f"{self._placement.launcher} {how_it_ended(end.status)}"
        if signal.SIGKILL.name in cause and processes_killed_for_memory() > killed_before:
            cause += ", as this machine ran out of memory,"
        is_error = end.lost is None and end.error is not None
        return _Failure(cause, self._folder.last_step(), is_error)

    def _newest(self) -> Path | None:
        """Return the newest whole checkpoint; one that is new begins the count anew."""
        checkpoint = self._folder.newest_whole()
        if checkpoint is not None and step_of(checkpoint) > self._reached:
            self._count, self._reached = 0, step_of(checkpoint)
        return checkpoint

    def _end_if_repeated(self, failure: _Failure) -> None:
        if failure.is_error and failure == self._last:
            self._give_up(f"{failure}, and that for the second time: no restart mends it")
        self._last = failure

    def _wait(self, failure: _Failure, checkpoint: Path | None) -> RanksLeft:
        """Say what has happened, wait, and return the ranks to go on with."""
        while True:
            if self._count >= self._restarts.most:
                self._give_up(f"{failure}, {counted(self._count, 'restart')} after the last new checkpoint")
            self._count += 1
            left, wait_s = self._placement.left(), wait_before(self._count)
            are_enough = left.ranks >= self._restarts.min_ranks
            self._say(failure, checkpoint, left, wait_s)
            self._pause(wait_s)
            if are_enough:
                break
        with suppress(UserError):  # on a full disk it costs the count, not the run
            self._folder.note({"cause": str(failure), "from_step": _step(checkpoint), "ranks": left.ranks})
        self._pause(_SETTLE_S, until=self._folder.is_free)
        return left

    def _say(self, failure: _Failure, checkpoint: Path | None, left: RanksLeft, wait_s: float) -> None:
        place = (
            f"from {checkpoint}" if checkpoint is not None else f"from the beginning, in {self._folder.path}"
        )
        if checkpoint is None and not self._folder.is_new:
            place = "from where it began: it has saved nothing since"
        missing = left.words(self._placement.ranks)
        if left.ranks < self._restarts.min_ranks:
            place = f"if {self._restarts.min_ranks} can be started then"
        terminal.say(
            f"restart {self._count} of {self._restarts.most} in {wait_s:.0f} s, {place}: {failure}"
            f"{'; ' if missing else ''}{missing}"
        )

    def _pause(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Wait so long, or until something is the case; end where the user wishes it meanwhile."""
        end = time.monotonic() + seconds
        while True:
            if self._stop.made:
                self._end_as_wished()
            if until() or time.monotonic() >= end:
                return
            time.sleep(min(_POLL_S, seconds))

    def _end_as_wished(self) -> NoReturn:
        has_saved = bool(checkpoints_of(self._folder.path))
        terminal.say(f"interrupted; go on with --resume {self._folder.path}" if has_saved else "interrupted")
        raise _OverError(INTERRUPTED)

    def _give_up(self, why: str) -> NoReturn:
        say_error(f"run: {why}; {self._how_to_go_on()}")
        raise _OverError(1)

    def _how_to_go_on(self) -> str:
        if checkpoints_of(self._folder.path):
            return f"go on with --resume {self._folder.path}"
        return "it has saved nothing"


def _step(checkpoint: Path | None) -> int:
    return step_of(checkpoint) if checkpoint is not None else 0
