"""The numbers of runs as CSV, for those who plot themselves: a row for each step and each evaluation."""

import csv
import io
import math
from collections.abc import Iterator, Sequence

from engine.report.metrics import EPOCH_FIELDS, STEP_FIELDS, Rows
from engine.report.run_record import RunRecord

COLUMNS = ("run", "kind", "step", "epoch", *STEP_FIELDS, *EPOCH_FIELDS)
"""In "step" rows `epoch` is the number of the epoch that the step is in, from 0; in "epoch" rows how many are
done. What is not known, or not finite, is empty."""

BEGIN = ",".join(COLUMNS) + "\n"
"""By it a file of ours is known, which may be written over."""

_PIECE = 10_000  # rows


def table(records: Sequence[RunRecord]) -> Iterator[bytes]:
    """Yield the file of some runs, one after the other, piece by piece."""
    yield BEGIN.encode()
    for run in records:
        yield from _in_pieces(_rows(run, "step", run.steps))
        yield from _in_pieces(_rows(run, "epoch", run.epochs))


def _in_pieces(rows: Iterator[list[str]]) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for number, row in enumerate(rows, start=1):
        writer.writerow(row)
        if number % _PIECE == 0:
            yield text.getvalue().encode("utf-8", "replace")
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode("utf-8", "replace")


def _rows(run: RunRecord, kind: str, rows: Rows) -> Iterator[list[str]]:
    given = [rows.values.get(name) for name in (*STEP_FIELDS, *EPOCH_FIELDS)]
    columns = [rows.step, rows.epoch, *given]
    for place in range(len(rows)):
        yield [run.name, kind, *("" if column is None else _figure(column[place]) for column in columns)]


def _figure(value: float) -> str:
    """Return all digits of a number; whole ones without a point."""
    if not math.isfinite(value):
        return ""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))
