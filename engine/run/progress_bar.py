"""A progress bar on a terminal: epoch, step, loss, speed and the time that is left."""

import time
from typing import IO, Any, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from comm.terminal import Output, harmless
from engine.run.pace import Pace, clock

_REFRESH_S = 0.1


class ProgressBar:
    """The last line of a terminal; other lines go above it.

    It is drawn by the caller, between steps: a thread that redraws it would take time from a kernel's core.
    """

    def __init__(self, output: Output, *, total_steps: int, first_step: int):
        self._console = Console(file=cast(IO[str], output))
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss={task.fields[loss]:.4f}  {task.fields[rate]}"),
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task(
            "", total=total_steps, completed=first_step, visible=False, epoch=0, loss=0.0, rate=""
        )
        self._drawn = 0.0
        self._progress.start()
        self._console.show_cursor(True)  # a rank that fails leaves at once, and would leave it hidden

    def close(self) -> None:
        """Draw the last state, which stays on the terminal."""
        self._progress.stop()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(harmless(line), markup=False, highlight=False, emoji=False, soft_wrap=True)

    def step(self, record: dict[str, Any], pace: Pace) -> None:
        """Show the record of a step."""
        rate, left = pace.samples_per_second, pace.seconds_left
        shown = "" if rate is None or left is None else f"{_shown(rate)} samples/s  {clock(left)} left"
        self._progress.update(
            self._task,
            completed=record["step"],
            visible=True,
            epoch=record.get("epoch", 0) + 1,
            loss=record["loss"],
            rate=shown,
        )
        if time.monotonic() - self._drawn > _REFRESH_S:
            self._drawn = time.monotonic()
            self._progress.refresh()


def _shown(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
