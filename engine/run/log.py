"""What a run tells: progress to the terminal, and files that other tools read."""

import json
import math
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm

from engine.run.run_folder import METRICS, RESULTS, writing

LINE_SECONDS = 10.0  # between progress lines where there is no terminal


def to_json(record: dict[str, Any], *, indent: int | None = None) -> str:
    """Write a flat record as JSON, which has no infinity and no NaN: they become null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }
    return json.dumps(finite, indent=indent, allow_nan=False)


class RunLog:
    """Log of one run: lines and a progress bar on stderr, `metrics.jsonl` and `run.json` in its folder.

    Only rank 0 speaks; on the others (`folder` None) every call does nothing. Use it in a `with`.

    Raises
    ------
    UserError
        In any call: the folder cannot be written.
    """

    def __init__(self, folder: Path | None, *, total_steps: int, first_step: int):
        self._folder, self._total = folder, total_steps
        self._metrics: TextIO | None = None
        self._bar: tqdm[Any] | None = None
        self._last_line = time.monotonic()
        self._warned = False
        if folder is None:
            return
        with writing(folder):
            self._metrics = (folder / METRICS).open("a", encoding="utf-8")
        if sys.stderr.isatty():
            self._bar = tqdm(total=total_steps, initial=first_step, unit="step", dynamic_ncols=True)

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
        if self._metrics is not None:
            self._metrics.close()

    def say(self, line: str) -> None:
        """Print a line on rank 0."""
        if self._folder is not None:
            tqdm.write(line, file=sys.stderr)
            sys.stderr.flush()

    def step(self, record: dict[str, Any]) -> None:
        """Write one step's record, and show that the run moves."""
        self._write({"kind": "step", **record})
        if not self._warned and not math.isfinite(record["loss"]):
            self._warned = True
            self.say(f"warning: step {record['step']}: the loss is {record['loss']}; a lower --lr may help")
        if self._bar is not None:
            self._bar.update()
            self._bar.set_postfix(loss=f"{record['loss']:.4f}", refresh=False)
        elif self._folder is not None and time.monotonic() - self._last_line > LINE_SECONDS:
            self._last_line = time.monotonic()
            rate = f"{record['samples_per_second']:.4g} samples/s"
            self.say(f"step {record['step']}/{self._total}: loss {record['loss']:.4f}, {rate}")

    def epoch(self, record: dict[str, Any]) -> None:
        """Write one epoch's record and say it."""
        self._write({"kind": "epoch", **record})
        self.say(
            f"epoch {record['epoch']:g}: training loss {record['final_loss']:.4f}, "
            f"test loss {record['test_loss']:.4f}, test accuracy {record['test_accuracy']:.4f}"
        )

    def finish(self, results: dict[str, Any]) -> None:
        """Write `run.json`, whole or not at all."""
        if self._folder is None:
            return
        unfinished = self._folder / f"{RESULTS}.unfinished"
        with writing(self._folder):
            unfinished.write_text(to_json(results, indent=2) + "\n", encoding="utf-8")
            unfinished.rename(self._folder / RESULTS)

    def _write(self, record: dict[str, Any]) -> None:
        if self._metrics is not None and self._folder is not None:
            with writing(self._folder):
                self._metrics.write(to_json(record) + "\n")
                self._metrics.flush()
