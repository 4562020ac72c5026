"""Progress over samples: a bar on a terminal, else a line now and then; both on stderr."""

import time
from types import TracebackType
from typing import IO, TYPE_CHECKING, cast

from comm import terminal
from engine.run.log import LINE_SECONDS
from engine.run.pace import clock

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_REFRESH_S = 0.1


class Progress:
    """Counts samples that are done; use it in a `with`.

    Parameters
    ----------
    total
        Samples in all; `at` may say so later.
    shown
        False says nothing, as on all ranks but one.
    bar
        False: no bar, as results on the same terminal show how far it is.
    """

    def __init__(self, total: int = 0, *, shown: bool = True, bar: bool = True):
        self._total, self._shown = total, shown
        self._begun = self._last = time.monotonic()
        self._bar: Bar | None = None
        if shown and bar and terminal.ERRORS.redraws():
            self._bar = _bar(total)

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
            self._bar.console.show_cursor(True)  # a process that is ended at once would leave it hidden
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.refresh()
            self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(
                terminal.harmless(line), markup=False, highlight=False, emoji=False, soft_wrap=True
            )
        elif self._shown:
            terminal.say(line)

    def at(self, done: int, total: int | None = None) -> None:
        """Show that so many samples are done."""
        if not self._shown:
            return
        self._total = total or self._total
        done, now = min(done, self._total), time.monotonic()
        if self._bar is not None:
            self._bar.update(
                self._bar.task_ids[0], completed=done, total=self._total, pace=self._pace(done, now)
            )
        if now - self._last > (LINE_SECONDS if self._bar is None else _REFRESH_S):
            self._last = now
            if self._bar is None:
                terminal.say(f"{done:,} of {self._total:,} samples, {self._pace(done, now)}")
            else:
                self._bar.refresh()

    def _pace(self, done: int, now: float) -> str:
        seconds = max(now - self._begun, 1e-9)
        left = seconds / max(done, 1) * (self._total - done)
        return f"{done / seconds:,.4g} samples/s, {clock(left)} left"


def _bar(total: int) -> "Bar":
    from rich.console import Console  # noqa: PLC0415 -- on a terminal only
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn  # noqa: PLC0415 -- as above
    from rich.progress import Progress as Bar  # noqa: PLC0415 -- as above

    bar = Bar(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        console=Console(file=cast(IO[str], terminal.ERRORS)),
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    bar.add_task("", total=total, pace="")
    return bar
