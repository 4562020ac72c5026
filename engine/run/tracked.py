"""Trackers of experiments as callbacks of a run: TensorBoard, MLflow, Weights & Biases."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.config.recipe import Recipe
from engine.config.settings import all_settings
from engine.run.callbacks import Callback, RunView
from engine.run.history import RATE
from engine.run.run_folder import METRICS
from engine.run.trainer import Trainer
from engine.tracking import trackers
from engine.tracking.background import Background
from engine.tracking.tracker import DONE, FAILED, INTERRUPTED, About, Line, Parameter

PATIENCE_S = 60.0
"""For a tracker that is behind when the run is over."""
SHORT_PATIENCE_S = 2.0
"""When it ends with an error."""


class Tracked(Callback):
    """Hands what is written to `metrics.jsonl` and `run.json` to one tracker; rank 0 alone has any."""

    def __init__(self, wanted: str, *, started_in: str, is_changed: bool):
        self._name, _, self._place = wanted.partition(":")
        self._started_in, self._is_changed = started_in, is_changed
        self._background: Background | None = None

    def on_begin(self, run: RunView) -> None:
        """Begin to track the run."""
        beginning = run.beginning
        assert beginning.folder is not None
        about = About(
            name=beginning.folder.name,
            folder=beginning.folder,
            place=self._place,
            started_in=Path(self._started_in),
            metrics=beginning.folder / METRICS,
            step=beginning.step,
            is_changed=self._is_changed,
            recipe=dict(parameters(beginning.recipe)),
            recipe_text=beginning.recipe.to_toml(),
        )
        tracker = trackers.make(self._name, about)
        self._background = Background(self._name, tracker, about, beginning.warn, beginning.say)

    def on_step(self, run: RunView, record: Mapping[str, Any]) -> None:
        """Track a step."""
        self._put("step", record)

    def on_epoch(self, run: RunView, record: Mapping[str, Any]) -> None:
        """Track an evaluation."""
        self._put("epoch", record)

    def on_end(self, run: RunView, results: Mapping[str, Any]) -> None:
        """Track the results, and wait until all is written."""
        self._end(INTERRUPTED if results["interrupted"] else DONE, results, PATIENCE_S)

    def close(self) -> None:
        """Say that the run has failed, unless it has ended."""
        self._end(FAILED, {}, SHORT_PATIENCE_S)

    def _put(self, kind: str, record: Mapping[str, Any]) -> None:
        if self._background is not None:
            self._background.put(Line.of(kind, record))

    def _end(self, ending: str, results: Mapping[str, Any], patience: float) -> None:
        background, self._background = self._background, None
        if background is not None:
            background.end(ending, results, patience=patience)


def trackers_of(trainer: Trainer) -> list[Tracked]:
    """Return the trackers that a run's recipe wants, on the rank that writes."""
    if trainer.folder is None:
        return []
    step, task = trainer.progress.step, trainer.task
    is_changed = any(each.get("what") == RATE and each.get("step") == step for each in task.history)
    return [Tracked(each, started_in=task.started_in, is_changed=is_changed) for each in trainer.recipe.track]


def parameters(recipe: Recipe) -> Iterator[tuple[str, Parameter]]:
    """Yield the fields of a recipe by their dotted names, but for where it is tracked."""
    for each in all_settings(Recipe):
        table, dot, name = each.path.partition(".")
        value: Any = getattr(recipe, table)
        value = getattr(value, name) if dot else value
        if each.path not in ("out", "trace", "track"):
            yield each.path, value if isinstance(value, str | int | float) else json.dumps(value)
