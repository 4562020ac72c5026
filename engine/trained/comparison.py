"""Two runs or checkpoints side by side: recipes, weights, figures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.config.errors import UserError
from engine.config.paths import expand
from engine.run.checkpoint import read_file, read_state, saved_recipe
from engine.run.finding import find_checkpoint
from engine.run.kept_checkpoints import FOLDER, MODEL
from engine.run.resumed_recipe import fields_of
from engine.trained.described import results_of
from layers.layer import Array


@dataclass(frozen=True)
class Comparison:
    """What two checkpoints have in common; pairs are (a's, b's), None where one has none."""

    checkpoints: tuple[Path, Path]
    recipe: dict[str, tuple[Any, Any]]
    """Fields that differ, by dotted name."""
    differences: dict[str, float | None]
    """Largest absolute difference of each tensor; None where one lacks it or has another shape."""
    figures: dict[str, tuple[Any, Any]]
    """Of both runs' `run.json`; empty where neither checkpoint lies in a run."""

    @property
    def same_weights(self) -> bool:
        """Whether all tensors are the same to the bit."""
        return all(each == 0.0 for each in self.differences.values())

    def lines(self) -> list[str]:
        """Return it for a reader."""
        rows = [("", *map(str, self.checkpoints))]
        rows += [(name, *map(_shown, pair)) for name, pair in {**self.recipe, **self.figures}.items()]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        if self.same_weights:
            return [*lines, "weights: the same, to the bit"]
        return [*lines, "weights: differ by at most"] + [
            f"  {name}  {'another shape, or in one only' if value is None else f'{value:.3g}'}"
            for name, value in self.differences.items()
        ]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def compare(a: Any, b: Any) -> Comparison:
    """Compare two runs or checkpoints.

    Parameters
    ----------
    a, b
        Folders of runs (their newest checkpoints are compared), checkpoints, or what has such a folder: a
        `Run`, a `Model`.

    Raises
    ------
    UserError
        There is no checkpoint, or it cannot be read.
    """
    one, other = _checkpoint(a), _checkpoint(b)
    recipes = [fields_of(saved_recipe(each, read_state(each))) for each in (one, other)]
    results = [_results(each) for each in (one, other)]
    return Comparison(
        (one, other),
        {name: pair for name, pair in _beside(*recipes).items() if pair[0] != pair[1]},
        _differences(*(read_file(each / MODEL) for each in (one, other))),
        {name: pair for name, pair in _beside(*results).items() if not any(map(_is_collection, pair))},
    )


def _is_collection(value: Any) -> bool:
    return isinstance(value, dict | list)


def _checkpoint(given: Any) -> Path:
    place = next(
        (value for name in ("checkpoint", "folder") if (value := getattr(given, name, None)) is not None),
        given,
    )
    if not isinstance(place, str | Path):
        raise UserError(f"compare: got {type(given).__name__}; must be a run, a model, or the path of one")
    return find_checkpoint(expand(str(place), "compare"), what="compare")


def _results(checkpoint: Path) -> dict[str, Any]:
    inside = checkpoint.parent.name == FOLDER
    return (results_of(checkpoint.parent.parent) or {}) if inside else {}


def _beside(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (one.get(name), other.get(name)) for name in {**one, **other}}


def _differences(one: dict[str, Array], other: dict[str, Array]) -> dict[str, float | None]:
    return {name: _difference(one.get(name), other.get(name)) for name in {**one, **other}}


def _difference(one: Array | None, other: Array | None) -> float | None:
    """Return the largest absolute difference; of values that are the same to the bit 0."""
    if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype:
        return None
    if one.tobytes() == other.tobytes():
        return 0.0
    largest = float(np.abs(one.astype(np.float64) - other).max())
    return largest or float(np.finfo(np.float32).smallest_subnormal)  # 0 and -0


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
