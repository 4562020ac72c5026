"""The trace of a run, in the JSON format that Perfetto and chrome://tracing read."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from comm.clock import Alignment
from comm.communicator import CONTROL_TAG, Communicator, Message
from engine.config.errors import UserError
from engine.config.files import check_place, open_file, read_bytes, reading, write_whole, writing
from engine.config.paths import expand
from engine.profile.recorder import (
    COMMUNICATION,
    KIND,
    MOST_SPANS,
    PASS,
    ROUND,
    ROWS,
    STEP,
    Recorder,
    Span,
)

ABOUT = "lockstep"  # key of the facts for engine.explain, in `otherData`
_FORMAT = 1
_BEGIN = b'{"displayTimeUnit"'
_LANES = 10_000  # thread numbers of a row: more than any network has jobs
_KINDS = ("", ", update", ", exchanges")  # whole jobs, or all spans of another row, come first


def check_writable(text: str) -> Path:
    """Check that a trace can be written to a file; return its path with all links followed.

    Raises
    ------
    UserError
        It is no file, no file can be written there, or what is there is no trace.
    """
    path = expand(text, "trace").resolve()
    if path.exists() and not path.is_file():
        raise UserError(f"trace: {path} is not a file")
    if path.exists():
        with reading(path, "trace"), open_file(path) as file:
            if file.read(len(_BEGIN)) not in (_BEGIN, b""):
                raise UserError(f"trace: {path} is there and no trace, and is not written over: give another")
    check_place(path, "trace", overwrite=True)
    return path


def write_trace(
    path: Path | None,
    control: Communicator,
    recorder: Recorder,
    alignment: Alignment,
    *,
    communication_alone: float | None,
) -> None:
    """Gather the spans of all ranks and write them on rank 0, whole or not at all (collective).

    Times are microseconds of rank 0's clock, counted from the first span of all.

    Raises
    ------
    UserError
        On rank 0, the only one with a `path`: it cannot be written.
    """
    spans = recorder.spans
    moments = [alignment.to_root(span.start) for span in spans]
    first = min(moment for moment in control.gather_objects(min(moments, default=None)) if moment is not None)
    text = _text(control.rank, spans, lambda moment: alignment.to_root(moment) - first)
    about = {
        "ranks": control.size,
        "communication_alone_seconds": communication_alone,
        "clock_error_seconds": max(control.gather_objects(alignment.error)),
        "complete": all(control.gather_objects(recorder.complete)),
    }
    texts = _to_root(control, text)
    if path is not None:
        _write(path, about, texts)


def write_spans(path: Path, ranks: Sequence[Sequence[Span]], *, communication_alone: float | None) -> None:
    """Write the spans of a simulation, whose ranks share one clock that begins at 0.

    Raises
    ------
    UserError
        It cannot be written.
    """
    about = {
        "ranks": len(ranks),
        "communication_alone_seconds": communication_alone,
        "clock_error_seconds": 0.0,
        "complete": True,
    }
    _write(path, about, [_text(rank, spans, lambda moment: moment) for rank, spans in enumerate(ranks)])


def _write(path: Path, about: dict[str, Any], texts: Sequence[bytes]) -> None:
    """Write the events of all ranks."""
    with writing(path, "trace"):
        write_whole(path, _content(about, texts))


def _content(about: dict[str, Any], texts: Sequence[bytes]) -> Iterator[bytes]:
    yield _BEGIN + b': "ms",\n"otherData": '
    yield json.dumps({ABOUT: {"format": _FORMAT, **about}}).encode()
    yield b',\n"traceEvents": [\n'
    for rank, text in enumerate(texts):
        if rank > 0:
            yield b",\n"
        yield text
    yield b"\n]}\n"


@dataclass(frozen=True)
class Trace:
    """The content of a trace file; times are seconds of rank 0's clock."""

    ranks: tuple[tuple[Span, ...], ...]
    """The spans of each rank."""
    communication_alone: float | None
    complete: bool
    """False if some rank had more spans than MOST_SPANS, of which the first are kept."""


def read_trace(path: Path) -> Trace:
    """Read a trace that `write_trace` wrote.

    Raises
    ------
    UserError
        It cannot be read, or is something else.
    """
    with reading(path):
        text = read_bytes(path)
    try:
        content = json.loads(text)
        about = content["otherData"][ABOUT]
        processes = {event["pid"] for event in content["traceEvents"]}
        if not processes or len(processes) != about["ranks"] or processes != set(range(len(processes))):
            raise ValueError(f"processes {processes} of {about['ranks']} ranks")
        ranks: list[list[Span]] = [[] for _ in processes]
        for event in content["traceEvents"]:
            if event["ph"] == "X":
                ranks[event["pid"]].append(_span(event))
        alone = about["communication_alone_seconds"]
        communication_alone = None if alone is None else float(alone)
        complete = bool(about["complete"])
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise UserError(f"{path}: is not a trace written by engine.train --trace") from error
    return Trace(tuple(map(tuple, ranks)), communication_alone, complete)


def note(trace: Trace) -> list[str]:
    """Return a warning if the trace is not complete."""
    return [] if trace.complete else [f"cut off: of each rank the first {MOST_SPANS:,} spans are kept"]


def lanes_of(row: str, spans: Sequence[Span]) -> list[tuple[str, list[Span]]]:
    """Return named lanes of one row of a rank, one at least, with the spans of each by their start.

    Spans of a lane lie side by side or inside each other, none crosses another. Spans of communication lie
    side by side only, as none is part of another; whole jobs, updates of weights, and rounds ("exchanges" in
    the file) have lanes of their own.
    """
    named = []
    for kind in _KINDS:
        inside = [span for span in spans if span.row == row and _kind(span) == kind]
        lanes = _in_lanes(inside, nests=row != COMMUNICATION)
        named += [
            (f"{row}{kind}" if number == 1 else f"{row}{kind} {number}", lane)
            for number, lane in enumerate(lanes, start=1)
        ]
    return named or [(row, [])]


def _kind(span: Span) -> str:
    if span.row == COMMUNICATION and PASS in span.attributes:
        return ", update"
    return ", exchanges" if span.attributes.get(KIND) == ROUND else ""


def _in_lanes(spans: Iterable[Span], *, nests: bool) -> list[list[Span]]:
    """Put each span into the first lane where it crosses none."""
    lanes: list[list[Span]] = []
    open_ends: list[list[float]] = []  # of the spans in each lane that have not ended
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        for ends in open_ends:
            while ends and ends[-1] <= span.start:
                ends.pop()
        free = (lane for lane, ends in enumerate(open_ends) if not ends or (nests and span.end <= ends[-1]))
        lane = next(free, len(lanes))
        if lane == len(lanes):
            lanes.append([])
            open_ends.append([])
        lanes[lane].append(span)
        open_ends[lane].append(span.end)
    return lanes


def _text(rank: int, spans: Sequence[Span], clock: Callable[[float], float]) -> bytes:
    return ",\n".join(json.dumps(event) for event in _events(rank, spans, clock)).encode()


def _events(rank: int, spans: Sequence[Span], clock: Callable[[float], float]) -> Iterator[dict[str, object]]:
    """Yield the metadata of a rank's rows, then its spans; `clock` turns their times into the file's."""
    yield _named("process_name", rank, 0, f"rank {rank}")
    yield {"name": "process_sort_index", "ph": "M", "pid": rank, "tid": 0, "args": {"sort_index": rank}}
    for number, row in enumerate(ROWS):
        for lane, (name, inside) in enumerate(lanes_of(row, spans)):
            tid = number * _LANES + lane
            yield _named("thread_name", rank, tid, name)
            yield {
                "name": "thread_sort_index", "ph": "M", "pid": rank, "tid": tid, "args": {"sort_index": tid}
            }  # fmt: skip
            for span in inside:
                # whole nanoseconds: what was nested, or side by side, remains so
                start, end = (round(clock(moment) * 1e9) for moment in (span.start, span.end))
                yield {
                    "name": span.name,
                    "cat": row,
                    "ph": "X",
                    "pid": rank,
                    "tid": tid,
                    "ts": start / 1e3,
                    "dur": (end - start) / 1e3,
                    "args": dict(span.attributes),
                }


def _named(what: str, rank: int, tid: int, name: str) -> dict[str, object]:
    return {"name": what, "ph": "M", "pid": rank, "tid": tid, "args": {"name": name}}


def _to_root(control: Communicator, text: bytes) -> list[bytes]:
    """Gather the texts of all ranks on rank 0; the other ranks get none (collective)."""
    sizes = control.gather_objects(len(text))
    if control.rank > 0:
        control.send_receive([Message(0, CONTROL_TAG, np.frombuffer(text, np.uint8))], [])
        return []
    texts = [text]
    for rank in range(1, control.size):
        arrived = np.empty(sizes[rank], np.uint8)
        control.send_receive([], [Message(rank, CONTROL_TAG, arrived)])
        texts.append(arrived.tobytes())
    return texts


def _span(event: dict[str, Any]) -> Span:
    start, duration = (round(float(event[name]) * 1e3) for name in ("ts", "dur"))  # nanoseconds, as written
    attributes = dict(event["args"])
    if STEP in attributes:
        attributes[STEP] = int(attributes[STEP])
    return Span(str(event["name"]), str(event["cat"]), start / 1e9, (start + duration) / 1e9, attributes)
