"""Draw one step: a row for each thread of each rank, over time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.profile.figure import figure_class, save_figure
from engine.profile.recorder import (
    COMMUNICATION,
    DATA,
    FOR_DATA,
    KIND,
    PASS,
    ROUND,
    ROWS,
    STEP,
    UPDATE,
    WAITS,
    Span,
)
from engine.profile.trace_file import lanes_of
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD

COLORS = {
    "forward": "#4e79a7",
    "backward weights": "#e15759",
    "backward data": "#f28e2b",
    "update": "#b07aa1",
    "communication": "#59a14f",
    "wait for communication": "#9d9d9d",
    "wait for data": "#d0b000",
    "load": "#76b7b2",
}
_PASSES = {
    FORWARD: "forward",
    BACKWARD_WEIGHTS: "backward weights",
    BACKWARD_DATA: "backward data",
    UPDATE: "update",
}
_LETTER = 0.0045  # width of a letter, as a share of the picture


def draw_step(ranks: Mapping[int, Sequence[Span]], step: Span, path: Path) -> None:
    """Draw the spans of ranks, by their numbers, in the time of a step; write a .png or .svg file.

    Raises
    ------
    UserError
        matplotlib is missing, or the file has another ending or cannot be written.
    """
    figure_of = figure_class(path)
    from matplotlib.patches import Patch  # noqa: PLC0415 -- an extra

    rows = [
        (f"rank {rank} {name}", spans)
        for rank, its in ranks.items()
        for row in ROWS
        for name, spans in lanes_of(row, _drawn(its, step))
    ]
    figure = figure_of(figsize=(14, 1.2 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    kinds = set[str]()
    for place, (name, spans) in enumerate(rows):
        kinds |= _draw_row(axes, place, spans, step)
        if place and name.endswith(ROWS[0]):
            axes.axhline(place - 0.5, color="black", linewidth=0.6)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, (step.end - step.start) * 1e3)
    axes.set_xlabel("ms")
    axes.set_title(f"step {step.attributes[STEP]}: {(step.end - step.start) * 1e3:.2f} ms")
    patches = [Patch(color=color, label=kind) for kind, color in COLORS.items() if kind in kinds]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(COLORS), fontsize=8, frameon=False)
    save_figure(figure, path)


def _drawn(spans: Sequence[Span], step: Span) -> list[Span]:
    """Return the spans to draw of a step: whole jobs, which get labels, but not their rounds."""
    return [
        span
        for span in spans
        if span.start < step.end and span.end > step.start and span.attributes.get(KIND) != ROUND
    ]


def _draw_row(axes: Any, place: int, spans: Sequence[Span], step: Span) -> set[str]:
    """Draw a row's spans inside the step, short ones over long ones; return their kinds."""
    kinds = set[str]()
    for span in sorted(spans, key=lambda span: span.start - span.end):
        kind, start, end = _kind(span), max(span.start, step.start), min(span.end, step.end)
        if kind is None or start >= end:
            continue
        kinds.add(kind)
        left, width = (start - step.start) * 1e3, (end - start) * 1e3
        axes.broken_barh(
            [(left, width)], (place - 0.4, 0.8), color=COLORS[kind], edgecolor="white", linewidth=0.3
        )
        label = str(span.attributes.get("layer", span.name))
        if end - start > _LETTER * len(label) * (step.end - step.start):
            axes.text(left + width / 2, place, label, ha="center", va="center", fontsize=6)
    return kinds


def _kind(span: Span) -> str | None:
    """Return a span's entry in the legend; None for a span that only contains others."""
    if PASS in span.attributes:
        return _PASSES.get(str(span.attributes[PASS]))
    if span.row == WAITS:
        return "wait for data" if FOR_DATA in span.attributes else "wait for communication"
    return {COMMUNICATION: "communication", DATA: "load"}.get(span.row)
