"""What a tracker is told of a run, whichever program it writes for."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

DONE, INTERRUPTED, FAILED = "done", "interrupted", "failed"
"""How a run may end, for a tracker; one that has stopped early is done."""

Parameter = str | int | float | bool


@dataclass(frozen=True)
class About:
    """A run that begins, or goes on."""

    name: str
    """Of its folder."""
    folder: Path
    place: str
    """Where the user wants it tracked; empty: in the tracker's usual place."""
    started_in: Path
    """Where relative places begin."""
    metrics: Path
    """Its `metrics.jsonl`, in which are the lines up to `step`."""
    step: int
    """After which it begins: what is tracked of later steps comes again."""
    is_changed: bool
    """It goes on with another learning rate: steps that come again are not those of before."""
    recipe: Mapping[str, Parameter]
    """By dotted name: "schedule.rate"; lists and tables as JSON."""
    recipe_text: str
    """As TOML."""


@dataclass(frozen=True)
class Line:
    """A line of `metrics.jsonl`."""

    kind: str
    """"step" or "epoch"."""
    step: int
    time: float
    """Seconds since 1970."""
    values: Mapping[str, float]
    """Its numbers, by "step/loss" or "epoch/test_loss"."""

    @classmethod
    def of(cls, kind: str, record: Mapping[str, Any]) -> "Line":
        """Return the numbers of a record, now; what is not known is left out, true is 1."""
        values = {
            f"{kind}/{name}": float(value)
            for name, value in record.items()
            if name not in ("kind", "step") and isinstance(value, int | float)
        }
        return cls(kind, int(record["step"]), time.time(), values)


class Tracker(Protocol):
    """Writes one run for one program; all is called on one thread, and may fail with any Exception."""

    def begin(self) -> int:
        """Begin the run, or go on with it; called again behind what has failed.

        Return the step up to which all is there, but perhaps lines of that step.
        """

    def write(self, lines: Sequence[Line]) -> None:
        """Write all lines that are not there yet, or else fail; they come again then."""

    def end(self, ending: str, results: Mapping[str, Any]) -> None:
        """Write results and say how the run has ended.

        Parameters
        ----------
        ending
            One of DONE, INTERRUPTED, FAILED.
        results
            The content of `run.json`; empty where it has failed.
        """
