"""One step of a trace for a page: the spans of each thread of each rank."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.config.errors import UserError
from engine.config.paths import expand
from engine.profile.recorder import COMMUNICATION, DATA, FOR_DATA, KIND, LAYER, PASS, ROUND, ROWS, STEP, WAITS
from engine.profile.recorder import Span as Recorded
from engine.profile.span_sums import steady_steps
from engine.profile.trace_file import Trace, lanes_of, note, read_trace
from engine.report.fields import text
from engine.report.run_record import RunRecord
from layers.work import PASSES

TRACE = "trace.json"
"""A trace of this name in a run's folder is found there."""

DRAWN_RANKS = 16

KINDS = (*PASSES, "update", "communication", "wait_for_communication", "wait_for_data", "load")
"""What a span can be; the page has a colour for each."""

_CLOCK_S = 2e-9  # a trace has whole nanoseconds


@dataclass(frozen=True)
class Step:
    """A step to draw."""

    number: int
    seconds: float
    rows: list[dict[str, Any]]
    """Each with its rank, its name and its spans: [start and length in us, kind, place of the name]."""
    names: list[str]
    notes: list[str]

    @property
    def spans(self) -> int:
        """How many there are."""
        return sum(len(row["spans"]) for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Return it as the page reads it."""
        return {
            "step": self.number, "length": _us(self.seconds), "rows": self.rows, "names": self.names,
            "kinds": list(KINDS),
        }  # fmt: skip


def find_trace(record: RunRecord, given: str | None) -> Trace | None:
    """Return the trace of a run: the file that is given, or one that is the run's without doubt, or none.

    Raises
    ------
    UserError
        The given file cannot be read, is no trace, or is one of another run.
    """
    if given is not None:
        path = expand(given, "trace")
        trace = read_trace(path)
        if not _is_of(trace, record):
            raise UserError(
                f"trace: {path} is of another run than {record.folder}: its steps took other times; "
                "the first --trace belongs to the first run"
            )
        return trace
    for path in _likely(record):
        try:
            trace = read_trace(path)
        except UserError:  # somebody's other file of that name
            continue
        if _is_of(trace, record):
            return trace
    return None


def one_step(trace: Trace, wanted: int | None) -> Step | None:
    """Return the step with a number, or of median length; None for a trace without a whole step.

    Raises
    ------
    UserError
        The trace has no such step.
    """
    steps = {int(str(span.attributes[STEP])): span for span in trace.ranks[0] if STEP in span.attributes}
    if wanted is not None and wanted not in steps:
        raise UserError(f"step: got {wanted}; the trace has {_range(steps)}")
    steady = sorted(steady_steps(trace.ranks[0]), key=lambda step: step.end - step.start)
    if not steady:
        return None
    step = steady[len(steady) // 2] if wanted is None else steps[wanted]
    names = dict[str, int]()
    rows = []
    for rank, spans in enumerate(trace.ranks[:DRAWN_RANKS]):
        inside = [span for span in spans if _is_inside(span, step)]
        for row in ROWS:
            for name, lane in lanes_of(row, inside):
                rows.append({"rank": rank, "name": name, "spans": _drawn(lane, step, names)})
    notes = note(trace)
    if len(trace.ranks) > DRAWN_RANKS:
        notes.append(f"the first {DRAWN_RANKS} of {len(trace.ranks)} ranks are drawn")
    rows = [row for row in rows if row["spans"] or row["name"] in ROWS]
    return Step(int(str(step.attributes[STEP])), step.end - step.start, rows, list(names), notes)


def _range(steps: dict[int, Recorded]) -> str:
    return f"{min(steps)} to {max(steps)}" if steps else "none"


def _likely(record: RunRecord) -> list[Path]:
    """Return where the run's trace may lie: in its folder, or where the run was told to write it."""
    said = text(record.results, "trace")
    places = [record.folder / TRACE]
    if said:
        places += [record.folder / Path(said).name, Path(said)]
    return [path for path in dict.fromkeys(places) if path.is_file()]


def _is_of(trace: Trace, record: RunRecord) -> bool:
    """Say whether steps of a trace took just the times that the run has noted for them."""
    noted = dict(zip(record.steps.step, record.steps.values["seconds"], strict=True))
    spans = [span for span in trace.ranks[0] if STEP in span.attributes]
    pairs = [(span.end - span.start, noted.get(float(str(span.attributes[STEP])))) for span in spans]
    here = np.array([seconds for seconds, there in pairs if there is not None])
    there = np.array([seconds for _, seconds in pairs if seconds is not None])
    return len(here) > 0 and bool(np.allclose(here, there, rtol=1e-9, atol=_CLOCK_S))


def _is_inside(span: Recorded, step: Recorded) -> bool:
    is_round = span.attributes.get(KIND) == ROUND
    return span.start < step.end and span.end > step.start and not is_round and _kind(span) is not None


def _drawn(lane: Sequence[Recorded], step: Recorded, names: dict[str, int]) -> list[list[float]]:
    """Return spans, cut at the borders of the step, long ones first: short ones lie on top of them."""
    found = []
    for span in sorted(lane, key=lambda span: span.start - span.end):
        start, end = max(span.start, step.start), min(span.end, step.end)
        name = str(span.attributes.get(LAYER, span.name))
        place = names.setdefault(name, len(names))
        kind = KINDS.index(str(_kind(span)))
        found.append([_us(start - step.start), _us(end - start), kind, place])
    return found


def _us(seconds: float) -> float:
    return round(seconds * 1e6, 2)


def _kind(span: Recorded) -> str | None:
    """Return what a span is, of KINDS; None for one that only contains others."""
    if PASS in span.attributes:
        name = str(span.attributes[PASS])
        return name if name in KINDS else None
    if span.row == WAITS:
        return "wait_for_data" if FOR_DATA in span.attributes else "wait_for_communication"
    return {COMMUNICATION: "communication", DATA: "load"}.get(span.row)
