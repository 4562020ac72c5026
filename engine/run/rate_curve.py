"""A learning-rate range test's curve: losses over rates, where it ends, and which rate it suggests.

Smith 2017, "Cyclical learning rates for training neural networks", arXiv:1506.01186, section 3.3; the end and
the suggestions are those of fastai's lr_find.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.run.log import to_json

SMOOTHING = 0.9
"""Share of the past in the smoothed loss."""
DIVERGED = 4.0
"""Times its lowest value: so high a smoothed loss ends the test."""
_FIRST = 5
"""Steps whose smoothed loss is an average of too few to tell a slope or a lowest value."""
_BELOW = 10.0
SUGGESTED = "a tenth of the rate of the lowest smoothed loss"
"""The rule in words."""
COLUMNS = ("step", "rate", "loss", "smoothed_loss")
"""Of a table of the curve."""


@dataclass(frozen=True)
class Point:
    """One step of the test."""

    step: int
    """Counted from 1."""
    rate: float
    loss: float
    smoothed: float
    """Average of the losses up to here, the newer the heavier."""

    def row(self) -> dict[str, Any]:
        """Return the point by the names of `COLUMNS`."""
        return dict(zip(COLUMNS, (self.step, self.rate, self.loss, self.smoothed), strict=True))


@dataclass(frozen=True)
class Suggestion:
    """What a whole curve suggests."""

    rate: float
    """See `SUGGESTED`."""
    lowest: Point
    steepest: Point
    """Where the smoothed loss falls fastest over the logarithm of the rate."""


class RateCurve:
    """The steps of a test so far, the same bits on all ranks."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.diverged = False
        self._sum = self._weight = 0.0
        self._best = math.inf

    def add(self, record: Mapping[str, Any]) -> bool:
        """Take a step's record; return whether it is the last, because the loss has diverged."""
        loss = float(record["loss"])
        self._sum = SMOOTHING * self._sum + (1 - SMOOTHING) * loss
        self._weight = SMOOTHING * self._weight + (1 - SMOOTHING)
        smoothed = self._sum / self._weight
        self.points.append(Point(record["step"], record["rate"], loss, smoothed))
        self.diverged = not smoothed <= DIVERGED * self._best or not math.isfinite(loss)
        self._best = min(self._best, smoothed)
        return self.diverged

    @property
    def still_falls(self) -> bool:
        """Whether the highest rate of a test that did not diverge has the lowest loss."""
        found = self.suggestion()
        return found is not None and not self.diverged and found.lowest == self.points[-1]

    def table(self, *, as_csv: bool) -> str:
        """Return all steps as CSV, or as a line of JSON each; what is not finite is empty there, and null."""
        rows = [point.row() for point in self.points]
        if not as_csv:
            return "".join(f"{to_json(row)}\n" for row in rows)
        lines = [",".join(COLUMNS), *(",".join(map(_figure, row.values())) for row in rows)]
        return "\n".join(lines) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Return the suggestion and its reasons, as `--json` prints them."""
        found = self.suggestion()
        return {
            "suggested_rate": found and found.rate,
            "rule": SUGGESTED,
            "lowest": found and found.lowest.row(),
            "steepest": found and found.steepest.row(),
            "diverged": self.diverged,
            "steps": len(self.points),
        }

    def lines(self) -> list[str]:
        """Return what a user is told of it."""
        if not self.points:
            return ["no step was done"]
        last, found = self.points[-1], self.suggestion()
        how = "the loss has diverged at" if self.diverged else "the loss has not diverged up to"
        end = f"{how} rate {last.rate:.3g}, step {last.step}"
        if found is None:
            return [end, "nothing is suggested: the loss does not fall; try a lower --from, or more --steps"]
        suggested = [
            f"suggested: --lr {found.rate:.2g}, {SUGGESTED} ({found.lowest.smoothed:.4g} at "
            f"{found.lowest.rate:.2g}); it falls fastest at {found.steepest.rate:.2g}"
        ]
        if self.still_falls:
            suggested.append("the loss still falls at the highest rate: a higher --to tells more")
        return [end, *suggested]

    def suggestion(self) -> Suggestion | None:
        """Return the suggested rate; None where the loss did not fall."""
        told = [point for point in self.points[_FIRST:] if math.isfinite(point.smoothed)]
        lowest = min(told, key=lambda point: point.smoothed, default=None)
        if lowest is None:
            return None
        falls = [
            (after.smoothed - before.smoothed, point)
            for before, point, after in zip(told, told[1:], told[2:], strict=False)
            if after.rate <= lowest.rate
        ]
        slope, steepest = min(falls, key=lambda each: each[0], default=(0.0, lowest))
        return Suggestion(lowest.rate / _BELOW, lowest, steepest) if slope < 0 else None


def _figure(value: float) -> str:
    """Return all digits of a number; empty where it is not finite."""
    return repr(value) if math.isfinite(value) else ""
