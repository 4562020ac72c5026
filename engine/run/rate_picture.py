"""A picture of a learning-rate range test: losses over rates, and what they suggest."""

import math
from collections.abc import Sequence
from pathlib import Path

from engine.profile.figure import figure_class, save_figure
from engine.run.rate_curve import SUGGESTED, Point, RateCurve

_HIGHEST = 1.5
"""Times the first loss: what is shown of the rise."""
_ROOM = 0.05
"""Share of the losses' range that is left above and below them."""


def draw_rates(curve: RateCurve, title: str, path: Path) -> None:
    """Draw a test's losses over the logarithm of the rate into a .png or .svg file.

    Raises
    ------
    UserError
        matplotlib is missing, or the file has another ending or cannot be written.
    """
    figure = figure_class(path, what="picture")(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    rates = [point.rate for point in curve.points]
    axes.plot(rates, [point.loss for point in curve.points], color="#9d9d9d", linewidth=0.8, label="loss")
    axes.plot(rates, [point.smoothed for point in curve.points], color="#4e79a7", label="smoothed")
    found = curve.suggestion()
    if found is not None:
        axes.axvline(
            found.rate, color="#e15759", linestyle="--", label=f"suggested {found.rate:.2g}: {SUGGESTED}"
        )
        for point, color, name in (
            (found.lowest, "#59a14f", "lowest"),
            (found.steepest, "#f28e2b", "falls fastest"),
        ):
            axes.plot([point.rate], [point.smoothed], "o", color=color, label=f"{name} at {point.rate:.2g}")
    axes.set_ylim(*_limits(curve.points))
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss")
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.grid(visible=True, linewidth=0.3)
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path, what="picture")


def _limits(points: Sequence[Point]) -> tuple[float, float]:
    """Return the range of losses to be shown: what diverges goes out of the picture."""
    losses = [loss for point in points for loss in (point.loss, point.smoothed) if math.isfinite(loss)]
    low, first = min(losses, default=0.0), next(iter(losses), 1.0)
    high = min(max(losses, default=1.0), _HIGHEST * first)
    room = _ROOM * (high - low) or 1.0
    return low - room, high + room
