"""The page: everything that it needs is in it, and it is allowed to fetch nothing."""

from collections.abc import Sequence
from typing import Any

from engine.config.wording import counted, printable
from engine.report import charts
from engine.report.document import document
from engine.report.elements import LABELS, key, run_name, section
from engine.report.fact_sections import environment_section, recipe_section, results_section
from engine.report.fields import text
from engine.report.layers_section import layers_section
from engine.report.markup import Markup, join, tag
from engine.report.memory_section import memory_section
from engine.report.notes import notes
from engine.report.run_record import RunRecord
from engine.report.time_section import time_section
from engine.report.timeline import KINDS, Step

BEGIN = "<!DOCTYPE html>\n<!-- lockstep report -->\n"
"""By it a page of ours is known, which may be written over."""

SCRIPTS = ("vendor/uPlot.iife.min.js", "page/page.js", "page/curves.js", "page/timeline.js")


def page(records: Sequence[RunRecord], steps: Sequence[Step | None]) -> str:
    """Return the page of some runs, each with a step of its trace or None."""
    title = records[0].name if len(records) == 1 else counted(len(records), "run")
    found = _sections(records, steps)
    about = " · ".join(dict.fromkeys(_about(run) for run in records))
    values = {"runs": charts.curves(records), "steps": _steps(steps)}
    content = (_notices(records), *found.values())
    return f"{BEGIN}{document(title, about, found, content, values, SCRIPTS)}\n"


def _sections(records: Sequence[RunRecord], steps: Sequence[Step | None]) -> dict[str, Markup]:
    """Return the sections that have something to show, by the names in the navigation."""
    found = {
        "results": results_section(records),
        "curves": charts.curves_section(records),
        "time": time_section(records),
        "layers": layers_section(records),
        "timeline": _timeline_section(records, steps),
        "memory": memory_section(records),
        "recipe": recipe_section(records),
        "environment": environment_section(records),
    }
    return {name: each for name, each in found.items() if each is not None}


def _about(run: RunRecord) -> str:
    model, names = text(run.results, "model"), text(run.results, "data")
    what = f"{model} on {names}" if model and names else model or names
    return printable(", ".join(filter(None, (what, run.state))))


def _notices(records: Sequence[RunRecord]) -> Markup | None:
    """Return what a reader must know first; of several runs each line has its run's name."""
    items = [
        tag("li", tag("b", f"{run.name}: ") if len(records) > 1 else None, line)
        for run in records
        for line in notes(run)
    ]
    if not items:
        return None
    return tag("div", tag("h2", "To note"), tag("ul", *items), class_="notices", role="note")


def _timeline_section(records: Sequence[RunRecord], steps: Sequence[Step | None]) -> Markup | None:
    drawn = [(place, step) for place, step in enumerate(steps) if step is not None]
    if not drawn:
        return None
    blocks = []
    for number, (place, step) in enumerate(drawn):
        buttons = [
            tag("button", sign, type="button", class_="toggle plain", data_zoom=what, aria_label=label)
            for sign, what, label in (
                ("+", "in", "zoom in"),
                ("-", "out", "zoom out"),
                ("all", "all", "the whole step"),
            )
        ]
        name = join([run_name(records, place), ", "]) if len(records) > 1 else None
        said = tag("p", name, f"step {step.number:,}, {step.seconds * 1e3:,.2f} ms", class_="step-name")
        content = f"{counted(step.spans, 'span')} in {counted(len(step.rows), 'row')}"
        words = f"Step {step.number} as a timeline: {content}"
        canvas = tag("canvas", tabindex="0", role="img", aria_label=words)
        notes = [tag("p", note, class_="about") for note in step.notes]
        hint = tag("output", class_="hint", aria_live="polite")
        head = tag("div", said, tag("div", *buttons, class_="group"), class_="timeline-head")
        blocks.append(
            tag(
                "div",
                head,
                tag("div", canvas, class_="lanes"),
                hint,
                *notes,
                class_="timeline",
                data_step=str(number),
            )
        )
    keys = [tag("span", key(kind)) for kind in KINDS]
    about = (
        "A row for each thread of each rank. Drag to move, wheel with Ctrl or pinch to zoom, double click a "
        "span to fill the row with it; with the keyboard arrows, + and -, 0 for all."
    )
    return section("timeline", "One step", about, tag("p", *keys, class_="legend"), *blocks)


def _steps(steps: Sequence[Step | None]) -> list[dict[str, Any]]:
    labels = [LABELS[kind] for kind in KINDS]
    return [{**step.to_json(), "labels": labels} for step in steps if step is not None]


def is_ours(content: bytes) -> bool:
    """Say whether a file begins as a page of ours."""
    return content.startswith(BEGIN.encode())
