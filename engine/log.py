"""What a run tells: progress to the terminal, and files that other tools read."""

import json
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

LINE_SECONDS = 10.0  # between progress lines where there is no terminal


class RunLog:
    """Log of one run: lines and a progress bar on stderr, `metrics.jsonl` and `run.json` in its folder.

    Only rank 0 speaks; on the others (`folder` None) every call does nothing.
    """

    def __init__(self, folder: Path | None, *, total_steps: int, first_step: int):
        self._folder, self._total = folder, total_steps
        self._metrics: TextIO | None = None
        self._bar: tqdm[Any] | None = None
        self._last_line = time.monotonic()
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._metrics = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        if sys.stderr.isatty():
            self._bar = tqdm(total=total_steps, initial=first_step, unit="step", dynamic_ncols=True)

    def say(self, line: str) -> None:
        """Print a line on rank 0."""
        if self._folder is not None:
            tqdm.write(line, file=sys.stderr)
            sys.stderr.flush()

    def step(self, record: dict[str, Any]) -> None:
        """Write one step's record, and show that the run moves."""
        self._write({"kind": "step", **record})
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

    def finish(self, result: dict[str, Any]) -> None:
        """Write `run.json`, whole or not at all."""
        if self._folder is not None:
            unfinished = self._folder / "run.json.unfinished"
            unfinished.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
            unfinished.rename(self._folder / "run.json")

    def close(self) -> None:
        """Close the files and the progress bar."""
        if self._bar is not None:
            self._bar.close()
        if self._metrics is not None:
            self._metrics.close()

    def _write(self, record: dict[str, Any]) -> None:
        if self._metrics is not None:
            self._metrics.write(json.dumps(record) + "\n")
            self._metrics.flush()
