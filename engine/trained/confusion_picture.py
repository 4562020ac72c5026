"""A picture of a confusion matrix."""

from pathlib import Path

import numpy as np

from engine.profile.figure import figure_class, save_figure
from engine.trained.evaluation import Evaluation

_MOST_NAMES = 60
"""Classes that are named along the edges."""
_MOST_NUMBERS = 25
"""Classes up to which each cell says its number."""


def draw_confusion(evaluation: Evaluation, path: Path) -> None:
    """Draw the confusion matrix, each row by its own number of samples, into a .png or .svg file.

    Raises
    ------
    UserError
        matplotlib is missing, or the file has another ending or cannot be written.
    """
    names, confusion = evaluation.class_names, evaluation.confusion
    size = min(16.0, max(4.0, 0.4 * len(names)))
    figure = figure_class(path, what="picture")(figsize=(size + 2, size + 1), layout="constrained")
    axes = figure.subplots()
    shares = confusion / np.maximum(evaluation.counts, 1)[:, np.newaxis]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= _MOST_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8, parse_math=False)
        axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    if len(names) <= _MOST_NUMBERS:
        for row, column in zip(*np.nonzero(confusion), strict=True):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(
                column, row, str(confusion[row, column]), ha="center", va="center", fontsize=7, color=color
            )
    axes.set_xlabel("found")
    axes.set_ylabel("is")
    axes.set_title(title_of(evaluation), fontsize=10, parse_math=False)
    figure.colorbar(image, ax=axes, label="share of the class", shrink=0.8)
    save_figure(figure, path, what="picture")


def title_of(evaluation: Evaluation) -> str:
    """Return what stands above the picture."""
    return f"{evaluation.title}{evaluation.seen}: top-1 {evaluation.accuracy:.2%}"
