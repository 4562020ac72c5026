"""The curves of the runs, as the page's script draws them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.report.elements import run_name, section
from engine.report.markup import Markup, tag
from engine.report.metrics import Floats
from engine.report.run_record import RunRecord
from engine.report.series import packed

CURVES = {
    "loss": ("Loss", "loss", "test_loss"),
    "accuracy": ("Accuracy", "accuracy", "test_accuracy"),
    "samples_per_second": ("Samples/s", "samples_per_second", ""),
    "rate": ("Learning rate", "rate", ""),
}
"""Title, field of the steps, and field of the evaluations."""

MOST_VALUES = 400_000
"""Values of steps in a page, of all runs and curves together: 2.1 MB of text."""

_VALUES_OF_WINDOW = 9  # two points and a mean, each with its step, some as float64


def curves(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return for each run its name and the series of each curve."""
    windows = windows_of(records)
    return [
        {
            "name": run.name,
            "steps_per_epoch": run.steps_per_epoch,
            "series": {name: _series(run, step, test, windows) for name, (_, step, test) in CURVES.items()},
        }
        for run in records
    ]


def fresh_curves(new: RunRecord, epoch: RunRecord) -> dict[str, Any]:
    """Return what has come of each curve, none of it left out, and "from" which step on it replaces others.

    Parameters
    ----------
    new
        With the lines that have come.
    epoch
        With all steps from the beginning of the epoch in which the first of these is: its mean changes.
    """
    found: dict[str, Any] = {}
    for name, (_, step, test) in CURVES.items():
        lines = {"raw": (new.steps.step, new.steps.step, new.steps.values[step])}
        if step != "rate":
            lines["mean"] = (epoch.steps.step, *epoch.epoch_means(step))
        if test:
            lines["test"] = (new.epochs.step, new.epochs.step, new.epochs.values[test])
        found[name] = {
            key: {"from": begin[0], **packed(x, y, len(x))} for key, (begin, x, y) in lines.items() if len(x)
        }
    return found


def windows_of(records: Sequence[RunRecord]) -> int:
    """Return into how many windows of steps a long run is thinned; what fits into the page is kept."""
    if sum(len(run.steps) for run in records) * len(CURVES) <= MOST_VALUES:
        return max(1, *(len(rows) for run in records for rows in (run.steps, run.epochs)))
    return max(1, MOST_VALUES // (len(CURVES) * len(records) * _VALUES_OF_WINDOW))


def thinned_note(records: Sequence[RunRecord]) -> str | None:
    """Return what the page says of steps that are not drawn; None where all are."""
    windows = windows_of(records)
    longest = max(len(run.steps) for run in records)
    if longest <= 2 * windows:
        return None
    return (
        f"Long runs are thinned out: of each {-(-longest // windows)} steps or fewer, the lowest and the "
        "highest value are drawn and smoothing takes their mean; --csv has every step."
    )


def curves_section(records: Sequence[RunRecord], *, grows: bool = False) -> Markup | None:
    """Return the places of the charts and what steers them; None without a step, unless some will come."""
    if not grows and not any(len(run.steps) for run in records):
        return None
    figures = [
        tag(
            "figure",
            tag("figcaption", tag("h3", title), tag("output", class_="readout", aria_hidden="true")),
            tag(
                "div",
                class_="chart",
                id=f"chart-{name}",
                role="img",
                tabindex="0",
                aria_label=_in_words(records, name),
            ),
            class_=f"curve {name}",
        )
        for name, (title, _, _) in CURVES.items()
    ]
    about = "Drag over a stretch to look closer, double click for all; with the keyboard + and -, arrows, 0."
    note = thinned_note(records)
    return section(
        "curves", "Curves", about, _controls(records, grows=grows), tag("div", *figures, class_="curves"),
        tag("p", note, class_="about") if note else None,
        tag("noscript", tag("p", "The curves are drawn by a script, which this browser does not run.")),
    )  # fmt: skip


def _controls(records: Sequence[RunRecord], *, grows: bool) -> Markup:
    has_epochs = grows or any(run.steps_per_epoch for run in records)
    runs = [
        tag(
            "button",
            run_name(records, place),
            type="button",
            class_="toggle",
            aria_pressed="true",
            data_run=str(place),
        )
        for place in range(len(records))
    ]
    lines = [
        tag(
            "button", tag("span", class_=f"line {name}", aria_hidden="true"), label,
            type="button", class_="toggle", aria_pressed="true", data_line=name,
        )
        for name, label in (("raw", "each step"), ("mean", "mean of an epoch"), ("test", "test"))
    ]  # fmt: skip
    smoothing = tag(
        "label", "smoothing ",
        tag("input", type="range", id="smoothing", min="0", max="99", value="0", step="1"),
        tag("output", "off", id="smoothing-said", for_="smoothing"),
    )  # fmt: skip
    return tag(
        "div",
        tag("div", *runs, class_="group", role="group", aria_label="runs") if len(records) > 1 else None,
        tag("div", *lines, class_="group", role="group", aria_label="lines"),
        tag("div", smoothing, class_="group"),
        tag(
            "div",
            _switch("log", "log loss", "false"),
            _switch("by-epoch", "by epoch", "false") if has_epochs else None,
            tag("button", "all", type="button", id="whole", class_="toggle plain", hidden=True),
            class_="group",
        ),
        class_="controls",
    )


def _switch(name: str, label: str, pressed: str) -> Markup:
    return tag("button", label, type="button", id=name, class_="toggle plain", aria_pressed=pressed)


def _in_words(records: Sequence[RunRecord], name: str) -> str:
    """Return a curve as a sentence, for who does not see it."""
    title, field, _ = CURVES[name]
    told = []
    for run in records:
        values = run.steps.values[field]
        values = values[np.isfinite(values)]
        if len(values):
            told.append(
                f"{run.name}: {len(run.steps):,} steps, from {values[0]:.4g} to {values[-1]:.4g}, "
                f"lowest {values.min():.4g}, highest {values.max():.4g}"
            )
    return f"{title} by step. {'; '.join(told)}"


def _series(run: RunRecord, step: str, test: str, windows: int) -> dict[str, Any]:
    found = {"raw": packed(run.steps.step, run.steps.values[step], windows)}
    if step != "rate":
        found["mean"] = packed(*run.epoch_means(step), windows)
    if test and len(run.epochs):
        found["test"] = packed(run.epochs.step, run.epochs.values[test], windows)
    return {name: each for name, each in found.items() if _says_anything(name, run, step, test)}


def _says_anything(name: str, run: RunRecord, step: str, test: str) -> bool:
    values: Floats = run.epochs.values[test] if name == "test" else run.steps.values[step]
    return bool(np.isfinite(values).any())
