"""The lines of a run's metrics as columns of numbers; lines that no run has written are counted."""

import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.report.fields import number, text, whole

Floats = NDArray[np.float64]

STEP_FIELDS = (
    "loss", "accuracy", "rate", "seconds", "exposed_communication_seconds", "data_wait_seconds",
    "samples_per_second",
)  # fmt: skip
EPOCH_FIELDS = ("training_loss", "test_loss", "test_accuracy")

STEP, EPOCH = "step", "epoch"
"""The kinds of lines."""

_COLUMNS = {STEP: ("step", "epoch", *STEP_FIELDS), EPOCH: ("step", "epoch", *EPOCH_FIELDS)}
_MOST_STEPS = 1 << 53  # beyond it a float does not hold every whole number


@dataclass(frozen=True)
class Rows:
    """Records of one kind, in the order of their steps; what is missing or not finite is NaN."""

    step: Floats
    epoch: Floats
    values: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.step)


class Metrics:
    """What lines have said so far, in the order in which they came."""

    def __init__(self) -> None:
        self._found = {kind: array("d") for kind in _COLUMNS}
        self._last = dict.fromkeys(_COLUMNS, 0.0)
        self.lines = 0
        """All that were taken."""
        self.damaged = 0
        """Lines that no run has written."""
        self.disorder = 0
        """Lines of an earlier step than the one before, or of the same: one that was taken once more."""

    def add(self, line: bytes) -> None:
        """Take a line."""
        self.lines += 1
        record = _record(line)
        if record is None:
            self.damaged += 1
            return
        kind = record["kind"]
        self.disorder += record["step"] <= self._last[kind]
        self._last[kind] = record["step"]
        self._found[kind].extend(_number_or_nan(record.get(name)) for name in _COLUMNS[kind])

    def count(self, kind: str) -> int:
        """Return how many lines of a kind there are."""
        return len(self._found[kind]) // len(_COLUMNS[kind])

    def trim(self, kind: str, most: int) -> None:
        """Forget the oldest lines of a kind, so that no more than `most` stay."""
        del self._found[kind][: max(0, self.count(kind) - most) * len(_COLUMNS[kind])]

    def epoch_begin(self, place: int) -> int:
        """Return the place of the first step of the epoch in which the step at a place is."""
        column = np.frombuffer(self._found[STEP]).reshape(-1, len(_COLUMNS[STEP]))[: place + 1, 1]
        epochs = np.nan_to_num(column, nan=-1.0)
        others = np.flatnonzero(epochs != epochs[-1])
        return int(others[-1]) + 1 if len(others) else 0

    def rows(self, kind: str, first: int = 0) -> Rows:
        """Return the lines of a kind from some place on, in the order of their steps.

        Of a step that was taken once more the later one counts.
        """
        columns = _COLUMNS[kind]
        table = np.array(self._found[kind][first * len(columns) :], np.float64).reshape(-1, len(columns))
        table = table[np.argsort(table[:, 0], kind="stable")]
        is_last = np.diff(table[:, 0], append=np.inf) > 0
        step, epoch, *others = table[is_last].T
        return Rows(step, epoch, dict(zip(columns[2:], others, strict=True)))


def read_metrics(content: bytes) -> Metrics:
    """Return what all lines of a file say."""
    found = Metrics()
    for line in content.splitlines():
        found.add(line)
    return found


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step, kind = whole(record, "step"), text(record, "kind")
    return record if step is not None and 0 < step < _MOST_STEPS and kind in _COLUMNS else None


def _number_or_nan(value: Any) -> float:
    found = number({"": value}, "")
    return np.nan if found is None else found
