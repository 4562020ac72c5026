"""The curves of runs as one picture: loss and test accuracy by epoch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.profile.figure import figure_class, save_figure
from engine.report.metrics import Floats
from engine.report.run_record import RunRecord

_MOST_NAMES = 12
"""Runs that are named in a legend."""


def draw_curves(records: Sequence[RunRecord], path: Path) -> None:
    """Draw the loss of each step and of each evaluation, and the test accuracy, into a .png or .svg file.

    Raises
    ------
    UserError
        matplotlib is missing, or the file has another ending or cannot be written.
    """
    figure = figure_class(path, what="picture")(figsize=(10, 4), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    lines, names = [], []
    for place, run in enumerate(records):
        colour = f"C{place}"
        epochs = _epochs(run)
        _draw(losses, run.steps.step / epochs, run.steps.values["loss"], colour=colour, alpha=0.35)
        tests = run.epochs.step / epochs
        _draw(losses, tests, run.epochs.values["test_loss"], colour=colour, marker="o")
        accuracy = 100 * run.epochs.values["test_accuracy"]
        lines.append(_draw(accuracies, tests, accuracy, colour=colour, marker="o"))
        names.append(_named(run, accuracy))
    unit = "epoch" if all(run.steps_per_epoch for run in records) else "step"
    _label(losses, unit, "loss: of each step, and of the test samples (points)")
    _label(accuracies, unit, "test accuracy, %")
    if len(records) <= _MOST_NAMES:
        places = list(map(str, range(len(lines))))  # matplotlib leaves out labels that begin with _
        legend = accuracies.legend(lines, places, fontsize=8, loc="lower right")
        for text, name in zip(legend.get_texts(), names, strict=True):
            text.set_parse_math(False)
            text.set_text(name)
    save_figure(figure, path, what="picture")


def _epochs(run: RunRecord) -> float:
    """Return the steps that are one unit of the horizontal axis."""
    return run.steps_per_epoch or 1.0


def _named(run: RunRecord, accuracy: Floats) -> str:
    finite = accuracy[np.isfinite(accuracy)]
    return f"{run.name}: {finite[-1]:.2f}" if len(finite) else run.name


def _draw(axes: Any, x: Floats, y: Floats, *, colour: str, **style: Any) -> Any:
    """Draw a line, and return it."""
    (line,) = axes.plot(x, y, color=colour, linewidth=1, markersize=3, **style)
    return line


def _label(axes: Any, unit: str, what: str) -> None:
    axes.set_xlabel(unit)
    axes.set_title(what, fontsize=10)
    axes.grid(alpha=0.3)
