"""Two runs or checkpoints side by side: recipes, weights, figures."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.config.errors import UserError
from engine.config.paths import expand
from engine.config.wording import counted
from engine.run.checkpoint import read_file, read_state, saved_recipe
from engine.run.kept_checkpoints import FOLDER, MODEL
from engine.run.resumed_recipe import fields_of
from engine.run.whole import check_whole
from engine.trained.described import results_of
from engine.trained.weights_file import read_about, read_named
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
    has_recipes: bool = True
    """False where one is a file of weights, of whose recipe the network alone is compared."""

    @property
    def same_weights(self) -> bool:
        """Whether all tensors are the same to the bit."""
        return all(each == 0.0 for each in self.differences.values())

    def to_json(self) -> dict[str, Any]:
        """Return all of it; a difference is null where there is no number."""
        return {
            "checkpoints": [str(each) for each in self.checkpoints],
            "same_weights": self.same_weights,
            "tensors": {
                name: {"same": each == 0.0, "largest_difference": None if each is None else _finite(each)}
                for name, each in self.differences.items()
            },
            "recipe": self.recipe,
            "figures": self.figures,
        }

    def lines(self) -> list[str]:
        """Return for a reader what differs."""
        differing = {name: pair for name, pair in self.figures.items() if pair[0] != pair[1]}
        if any(set(side) == {None} for side in zip(*self.figures.values(), strict=True)):
            differing = {}  # one of them lies in no run, or in one that is not over
        rows = [("", *map(str, self.checkpoints))]
        rows += [(name, *map(_shown, pair)) for name, pair in {**self.recipe, **differing}.items()]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        if not self.recipe:
            lines.append(f"{'recipe' if self.has_recipes else 'network'}: the same")
        if self.same_weights:
            return [*lines, "weights: the same, to the bit"]
        others = {name: each for name, each in self.differences.items() if each != 0.0}
        return [
            *lines,
            f"weights: {len(others)} of {counted(len(self.differences), 'tensor')} differ, by at most",
            *(f"  {name}  {_by(value)}" for name, value in others.items()),
        ]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def compare(a: Any, b: Any, *, best: bool = False) -> Comparison:
    """Compare two runs, checkpoints or files of weights.

    Parameters
    ----------
    a, b
        Folders of runs (their newest checkpoints are compared), checkpoints, `.safetensors`, or what has such
        a place: a `Run`, a `Model`.
    best
        Of runs the best checkpoints, where their recipes keep those.

    Raises
    ------
    UserError
        There is no checkpoint, or it cannot be read.
    """
    one, other = (_read(each, best=best) for each in (a, b))
    recipe = _beside(one.recipe, other.recipe)
    has_recipes = one.is_whole and other.is_whole
    if not has_recipes:
        recipe = {name: pair for name, pair in recipe.items() if None not in pair}
    figures = _beside(one.figures, other.figures)
    return Comparison(
        (one.checkpoint, other.checkpoint),
        {name: pair for name, pair in recipe.items() if pair[0] != pair[1]},
        _differences(one.tensors, other.tensors),
        {name: pair for name, pair in figures.items() if not any(map(_is_collection, pair))},
        has_recipes,
    )


@dataclass(frozen=True, eq=False)
class _Side:
    checkpoint: Path
    is_whole: bool
    """It is a checkpoint, and no file of weights."""
    recipe: dict[str, Any]
    tensors: dict[str, Array]
    figures: dict[str, Any]


def _read(given: Any, *, best: bool) -> _Side:
    place = next(
        (value for name in ("checkpoint", "folder") if (value := getattr(given, name, None)) is not None),
        given,
    )
    if not isinstance(place, str | Path):
        raise UserError(f"compare: got {type(given).__name__}; must be a run, a model, or the path of one")
    return read_named(expand(str(place), "compare"), _side, best=best)


def _side(found: Path) -> _Side:
    if found.is_file():
        _, recipe = read_about(found)
        known = {name: value for name, value in fields_of(recipe).items() if name.startswith("model")}
        return _Side(found, False, known, read_file(found), {})
    check_whole(found, (MODEL,))
    recipe = saved_recipe(found, read_state(found))
    return _Side(found, True, fields_of(recipe), read_file(found / MODEL), _results(found))


def _is_collection(value: Any) -> bool:
    return isinstance(value, dict | list)


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


def _by(value: float | None) -> str:
    return "another shape, or in one only" if value is None else f"{value:.3g}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
