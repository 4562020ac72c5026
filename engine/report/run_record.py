"""Read what a run has left in its folder; it may still go on, or have been cut short."""

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.config.files import read_bytes, reading
from engine.config.paths import expand
from engine.config.wording import printable
from engine.report.fields import number, truth
from engine.report.metrics import EPOCH, STEP, Floats, Rows, read_metrics
from engine.run.run_folder import METRICS, RECIPE, RESULTS


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder tells it."""

    name: str
    folder: Path
    results: Mapping[str, Any]
    """The content of `run.json`; empty where there is none yet."""
    recipe: Mapping[str, Any]
    """By dotted name: "schedule.rate"."""
    steps: Rows
    epochs: Rows
    """Evaluations: `epoch` counts from 1 there."""
    damaged: int
    """Lines of the metrics that no run has written."""

    @property
    def state(self) -> str:
        """How far it came: done, stopped early, interrupted, or without results."""
        if not self.results:
            return "no results yet"
        if truth(self.results, "interrupted"):
            return "interrupted"
        return "stopped early" if truth(self.results, "stopped_early") else "done"

    @property
    def steps_per_epoch(self) -> float | None:
        """Steps of an epoch; None where nothing says it."""
        steps, epochs = number(self.results, "steps"), number(self.results, "epochs")
        if steps and epochs and math.isfinite(steps / epochs):
            return steps / epochs
        if len(self.epochs) and self.epochs.epoch[-1] > 0:
            return float(self.epochs.step[-1] / self.epochs.epoch[-1])
        starts = self._epoch_starts()
        if not len(starts):
            return None
        last = starts[0] - 1
        return number({"": float(self.steps.step[last] / (self.steps.epoch[last] + 1))}, "")

    def _epoch_starts(self) -> NDArray[np.intp]:
        """Return the places of the steps that begin another epoch than the one before."""
        epoch = np.nan_to_num(self.steps.epoch, nan=-1.0)  # steps that do not say it belong together
        return 1 + np.flatnonzero(epoch[1:] != epoch[:-1])

    def epoch_means(self, field: str) -> tuple[Floats, Floats]:
        """Return the last step of each epoch, and the mean of a field over its steps.

        Of speeds it is the speed of the whole epoch. A value that is not finite makes the mean so.
        """
        if not len(self.steps):
            return np.zeros(0), np.zeros(0)
        values = self.steps.values[field]
        starts = np.concatenate([[0], self._epoch_starts()])
        counts = np.diff([*starts, len(values)])
        ends = self.steps.step[starts + counts - 1]
        with np.errstate(all="ignore"):  # values may be anything
            if field == "samples_per_second":
                return ends, counts / np.add.reduceat(1 / values, starts)
            return ends, np.add.reduceat(values, starts) / counts


def read_runs(given: Sequence[str]) -> list[RunRecord]:
    """Read runs by their folders, their `run.json`, or as NAME=FOLDER; names that are equal get a number.

    Raises
    ------
    UserError
        A folder that holds no run, a file that cannot be read, or one that no run has written.
    """
    records = list[RunRecord]()
    for each in given:
        name, path = named_folder(each)
        taken = {record.name for record in records}
        count = 1
        while (unique := name if count == 1 else f"{name} ({count})") in taken:
            count += 1
        records.append(_read(unique, path))
    return records


def named_folder(given: str) -> tuple[str, Path]:
    """Return the name and the folder that a user means by a folder, its `run.json`, or NAME=FOLDER."""
    path = expand(given, "run")
    name, equals, other = given.partition("=")
    if equals and name and not path.exists():
        return printable(name), _folder(expand(other, "run"))
    folder = _folder(path)
    return printable(folder.name or folder.resolve().name or "run"), folder


def _folder(path: Path) -> Path:
    return path.parent if path.name == RESULTS and not path.is_dir() else path


def _read(name: str, folder: Path) -> RunRecord:
    if not any((folder / each).is_file() for each in (METRICS, RESULTS, RECIPE)):
        raise UserError(f"run: {folder} holds no run: none of {METRICS}, {RESULTS} and {RECIPE} is there")
    metrics = read_metrics(_content(folder / METRICS) or b"")
    results, recipe = _results(folder / RESULTS), _recipe(folder / RECIPE)
    return RunRecord(name, folder, results, recipe, metrics.rows(STEP), metrics.rows(EPOCH), metrics.damaged)


def _content(path: Path) -> bytes | None:
    with reading(path):
        return read_bytes(path) if path.exists() else None


def _results(path: Path) -> dict[str, Any]:
    content = _content(path)
    if content is None:
        return {}
    try:
        found = results_in(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is cut short or damaged: {error}") from error
    if not found:
        raise UserError(f"{path}: holds no results of a run")
    return found


def results_in(content: bytes) -> dict[str, Any]:
    """Return what a `run.json` says; an empty table where it holds something else than results.

    Raises
    ------
    ValueError, RecursionError
        It is no JSON.
    """
    found = json.loads(content)
    return found if isinstance(found, dict) else {}


def _recipe(path: Path) -> dict[str, Any]:
    content = _content(path)
    try:
        return {} if content is None else recipe_in(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no recipe: {error}") from error


def recipe_in(content: bytes) -> dict[str, Any]:
    """Return the fields of a recipe by their dotted names.

    Raises
    ------
    ValueError, RecursionError
        It is no TOML.
    """
    return dict(_flat(tomllib.loads(content.decode())))


def _flat(entries: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    found = list[tuple[str, Any]]()
    for name, value in entries.items():
        found += _flat(value, f"{above}{name}.") if isinstance(value, dict) else [(f"{above}{name}", value)]
    return found
