"""The log of a run: progress for the user, and files that other tools read."""

import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from comm import terminal
from engine.config.errors import UserError
from engine.config.files import write_whole, writing
from engine.run.pace import Pace
from engine.run.run_folder import METRICS, RESULTS, loss_before_evaluation, losses_of

if TYPE_CHECKING:
    from engine.run.progress_bar import ProgressBar

LINE_SECONDS = 10.0  # between progress lines where there is no terminal


def to_json(record: dict[str, Any], *, indent: int | None = None) -> str:
    """Return a flat record as JSON; infinity and NaN, which JSON lacks, become null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }
    return json.dumps(finite, indent=indent, allow_nan=False)


class RunLog:
    """Log of one run: lines and a progress bar on stderr, `metrics.jsonl` and `run.json` in its folder.

    Only rank 0 speaks; on the others every call does nothing. Use it in a `with`.

    Parameters
    ----------
    folder
        None on all ranks but 0, and of a run that is not written down.
    speaks
        Whether this rank does; unless given, the one that has the folder.
    check_folder
        Raises UserError where the folder is another run's by now; called before a file is made there.

    What a disk refuses is kept, and written with the next line.

    Raises
    ------
    UserError
        In any call: the folder is another run's by now. At the end: it cannot be written.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        total_steps: int,
        first_step: int,
        check_folder: Callable[[], None] = lambda: None,
        speaks: bool | None = None,
    ):
        self._check_folder = check_folder
        self._folder, self._total = folder, total_steps
        self._metrics: BinaryIO | None = None
        self._unwritten = b""
        self.warnings: list[str] = []
        """What `warn` has said."""
        self._refusal: str | None = None
        self._bar: ProgressBar | None = None
        self._pace = Pace(total_steps=total_steps, first_step=first_step)
        self._last_line = time.monotonic()
        self._speaks = folder is not None if speaks is None else speaks
        if not self._speaks:
            return
        if terminal.ERRORS.redraws():
            from engine.run import progress_bar  # noqa: PLC0415 -- imports rich: on a terminal only

            self._bar = progress_bar.ProgressBar(
                terminal.ERRORS, total_steps=total_steps, first_step=first_step
            )

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        try:
            with suppress(OSError, UserError):  # a run that ends with another error
                self._write_lines()
        finally:
            if self._metrics is not None:
                self._metrics.close()

    def loss_before_evaluation(self, step: int) -> float | None:
        """Return on rank 0 the loss of a step that is there from before, but not its evaluation."""
        return None if self._folder is None else loss_before_evaluation(self._folder, step)

    def losses_of(self, step: int) -> dict[str, float | None]:
        """Return on rank 0 the losses of a step that are there from before, by the kind of line."""
        return {} if self._folder is None else losses_of(self._folder, step)

    def say(self, line: str) -> None:
        """Print a line on rank 0."""
        if self._bar is not None:
            self._bar.say(line)
        elif self._speaks:
            terminal.say(line)

    def warn(self, line: str) -> None:
        """Print a warning on rank 0, and keep it."""
        if self._speaks:
            self.warnings.append(line)
            self.say(f"warning: {line}")

    def step(self, record: dict[str, Any]) -> None:
        """Write one step's record and show it."""
        self._write({"kind": "step", **record})
        if not self._speaks:
            return
        self._pace.step(record["step"], record["samples_per_second"])
        if self._bar is not None:
            self._bar.step(record, self._pace)
        elif time.monotonic() - self._last_line > LINE_SECONDS:
            self._last_line = time.monotonic()
            at = f"epoch {record.get('epoch', 0) + 1}, step {record['step']}/{self._total}"
            self.say(", ".join((f"{at}: loss {record['loss']:.4f}", *self._pace.words())))

    def complete(self, record: dict[str, Any]) -> None:
        """Write a step's record that the lines of before end without, as another rank wrote them."""
        if self._folder is not None and "step" not in losses_of(self._folder, record["step"]):
            self._write({"kind": "step", **record})

    def epoch(self, record: dict[str, Any]) -> None:
        """Write one epoch's record and say it."""
        self._write({"kind": "epoch", **record})
        mean = record["training_loss"]
        loss = "" if mean is None else f"training loss {mean:.4f}, "
        self.say(
            f"epoch {record['epoch']:g}: {loss}"
            f"test loss {record['test_loss']:.4f}, test accuracy {record['test_accuracy']:.4f}"
        )

    def finish(self, results: dict[str, Any]) -> None:
        """Write `run.json`, whole or not at all."""
        if self._folder is not None:
            with writing(self._folder, "out"):
                self._check_folder()
                self._write_lines()
                write_whole(self._folder / RESULTS, to_json(results, indent=2) + "\n")

    def _write(self, record: dict[str, Any]) -> None:
        """Append a line."""
        if self._folder is None:
            return
        self._unwritten += f"{to_json(record)}\n".encode()
        try:
            self._write_lines()
        except OSError as error:
            reason = error.strerror or str(error)
            if reason != self._refusal:
                self._refusal = reason
                self.warn(
                    f"{self._folder / METRICS}: cannot be written: {reason}; the run goes on, and its lines "
                    "are kept until they can"
                )
        else:
            self._refusal = None

    def _write_lines(self) -> None:
        """Write what is left to write; the file is made then: a run without a step may begin once more."""
        if self._folder is None or not self._unwritten:
            return
        if self._metrics is None:  # unbuffered: closing it must have nothing left that can fail
            self._check_folder()
            self._metrics = (self._folder / METRICS).open("ab", buffering=0)
        while self._unwritten:
            self._unwritten = self._unwritten[self._metrics.write(self._unwritten) :]
