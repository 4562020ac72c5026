"""Curves in a terminal: one character is two points high, so that a curve has a shape on a few lines."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.config.wording import printable
from engine.profile.breakdown import Breakdown
from engine.report import comparison, figures
from engine.report.fields import table
from engine.report.metrics import Floats
from engine.report.notes import notes
from engine.report.run_record import RunRecord
from engine.report.time_spent import LayerTime, layer_times

LINES = 12
"""Height of a curve."""

_COLOURS = (34, 33, 32, 35, 36, 31, 94, 90)  # as the terminal has them: blue, yellow, green, ...
_LEAST_WIDTH, _MOST_WIDTH, _AXIS = 40, 160, 10
_FULL, _UPPER, _LOWER = "█▀▄"
_PLAIN_MARKS = "*o+x#@%&"
_MOST = 1e38  # beyond it a page has a gap too, as float32 has


@dataclass(frozen=True)
class Style:
    """What a terminal can show."""

    width: int
    blocks: bool
    """It can write block characters."""
    colours: bool

    def coloured(self, text: str, place: int) -> str:
        """Return text in the colour of a run."""
        return f"\x1b[{_COLOURS[place % len(_COLOURS)]}m{text}\x1b[0m" if self.colours else text


def lines(records: Sequence[RunRecord], style: Style) -> list[str]:
    """Return the report of some runs as lines of text."""
    found = list[str]()
    for place, run in enumerate(records):
        mark = f"{style.coloured(_mark(place, style), place)} " if len(records) > 1 else ""
        told = textwrap.wrap(f"{run.name}: {_result(run)}", _width(style) - 2) or [run.name]
        found += [f"{mark}{told[0]}", *(f"  {line}" for line in told[1:])]
        found += [f"  {line}" for line in notes(run)]
    for title, name in (
        ("loss of a step", "loss"),
        ("accuracy of a step", "accuracy"),
        ("samples/s", "samples_per_second"),
    ):
        curves = [(run.steps.step, run.steps.values[name]) for run in records]
        found += _curve(title, curves, style)
    for title, name in (("test loss", "test_loss"), ("test accuracy", "test_accuracy")):
        tests = [(run.epochs.step, run.epochs.values[name]) for run in records]
        if any(np.isfinite(values).sum() > 1 for _, values in tests):
            found += _curve(title, tests, style)
    for run in records:
        found += _time(run, several=len(records) > 1)
    return found


def _width(style: Style) -> int:
    return min(max(style.width, _LEAST_WIDTH), _MOST_WIDTH)


def _result(run: RunRecord) -> str:
    told = {row.name: row.values[0] for row in comparison.results([run])}
    names = (
        "network",
        "data",
        "state",
        "steps",
        "test accuracy",
        "loss of the last step",
        "samples/s, median",
        "time of the session",
    )
    return ", ".join(
        f"{name} {told[name]}" if name not in ("state",) else told[name] for name in names if name in told
    )


def _mark(place: int, style: Style) -> str:
    return _FULL if style.blocks and style.colours else _PLAIN_MARKS[place % len(_PLAIN_MARKS)]


def _curve(title: str, curves: Sequence[tuple[Floats, Floats]], style: Style) -> Iterator[str]:
    """Yield a chart of several curves over their steps; nothing if there is no value."""
    curves = [(steps, np.where(np.abs(values) < _MOST, values, np.nan)) for steps, values in curves]
    finite = [values[np.isfinite(values)] for _, values in curves]
    if not any(map(len, finite)):
        return
    low, high = (
        min(each.min() for each in finite if len(each)),
        max(each.max() for each in finite if len(each)),
    )
    if title == "samples/s":
        low, high = 0.0, max(float(np.quantile(each, 0.995)) for each in finite if len(each))
    high = high if high > low else low + (abs(low) or 1.0)
    first = min(float(steps[0]) for steps, _ in curves if len(steps))
    last = max(float(steps[-1]) for steps, _ in curves if len(steps))
    width = _width(style) - _AXIS - 2
    board = np.full((2 * LINES, width), -1)
    for place, (steps, values) in enumerate(curves):
        with np.errstate(over="ignore"):  # of a range that is next to nothing
            shares = np.clip((values - low) / (high - low), 0, 1)
        _draw(board, steps, shares, place, first, last)
    yield ""
    yield title
    for line in range(LINES):
        at = {0: high, LINES - 1: low, LINES // 2: high - (high - low) * (LINES // 2) / (LINES - 1)}.get(line)
        label = "" if at is None else figures.plain(float(at))
        yield f"{label:>{_AXIS}} {_characters(board[2 * line], board[2 * line + 1], style)}".rstrip()
    ends = f"step {first:,.0f}", f"{last:,.0f}"
    yield f"{'':>{_AXIS}} {ends[0]}{ends[1]:>{max(1, width - len(ends[0]))}}"


def _draw(
    board: "np.ndarray[tuple[int, int], np.dtype[np.int64]]",
    steps: Floats,
    shares: Floats,
    place: int,
    first: float,
    last: float,
) -> None:
    """Draw the mean of each column, joined to the one before it."""
    height, width = board.shape
    kept = np.isfinite(shares)
    columns = ((steps[kept] - first) / max(1.0, last - first) * (width - 1)).round().astype(int)
    sums = np.bincount(columns, shares[kept], width)
    counts = np.bincount(columns, minlength=width)
    before: tuple[int, int] | None = None
    for column in np.flatnonzero(counts):
        row = round((1 - sums[column] / counts[column]) * (height - 1))
        start = row
        if before is not None:
            for between in range(before[0] + 1, column):
                part = (between - before[0]) / (column - before[0])
                board[round(before[1] + part * (row - before[1])), between] = place
            if column == before[0] + 1:
                start = before[1] + (row > before[1]) - (row < before[1])
        board[min(start, row) : max(start, row) + 1, column] = place
        before = (int(column), row)


def _characters(upper: Floats, lower: Floats, style: Style) -> str:
    """Return two rows of points as one line; where two runs meet the upper point is shown."""
    found = []
    for above, below in zip(upper.astype(int), lower.astype(int), strict=True):
        place = above if above >= 0 else below
        if place < 0:
            found.append(" ")
        elif not style.blocks or (not style.colours and _several(upper, lower)):
            found.append(style.coloured(_PLAIN_MARKS[place % len(_PLAIN_MARKS)], place))
        elif above >= 0 and below >= 0 and above == below:
            found.append(style.coloured(_FULL, place))
        else:
            found.append(style.coloured(_UPPER if above >= 0 else _LOWER, place))
    return "".join(found)


def _several(upper: Floats, lower: Floats) -> bool:
    return bool(max(upper.max(), lower.max()) > 0)


def _time(run: RunRecord, *, several: bool) -> Iterator[str]:
    """Yield the table of where the time went, and of the layers."""
    try:
        breakdown = Breakdown.from_json(table(run.results, "where_the_time_went"))
    except ValueError:
        return
    yield ""
    if several:
        yield f"{run.name}:"
    yield from breakdown.lines()
    rows = layer_times(run)
    if not rows:
        return
    longest = max(max(row.measured_seconds or 0.0, row.predicted_seconds or 0.0) for row in rows)
    width = max(24, *(len(printable(row.name)) for row in rows))
    yield ""
    yield f"{'layers, ms of a step, mean':<{width}}  {'measured':>10} {'predicted':>10} {'ratio':>7}"
    yield from (_layer(row, width, longest) for row in rows)


def _layer(row: LayerTime, width: int, longest: float) -> str:
    measured, predicted = (
        figures.milliseconds(seconds, longest) for seconds in (row.measured_seconds, row.predicted_seconds)
    )
    ratio = figures.NOTHING if row.ratio is None else f"{row.ratio:.2f}"
    return f"{printable(row.name):<{width}}  {measured:>10} {predicted:>10} {ratio:>7}"
