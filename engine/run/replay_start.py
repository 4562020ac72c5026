"""Where the replay of a step starts: at the checkpoint before it, with the rate that the step had."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from engine.config.errors import UserError
from engine.config.paths import expand
from engine.config.recipe import Recipe, read_recipe
from engine.run.checkpoint import saved_recipe
from engine.run.history import RATE
from engine.run.kept_checkpoints import step_of
from engine.run.recorded import readable_states, results_of
from engine.run.resumed_recipe import placed
from engine.run.run_folder import RECIPE
from engine.run.start import Start, new_run, resumed_run
from engine.run.state import State
from engine.run.whole import newest_whole_of


class _Change(NamedTuple):
    """Of the learning rate, as a run went on from a step."""

    step: int
    before: float
    after: float


def start_before(run: Path, step: int, changes: Mapping[str, Any]) -> Start:
    """Return a start at the newest whole checkpoint before a step, or the run's beginning.

    The plan is "data" and the threads are this machine's, unless `changes` say otherwise: no bit knows them.
    Relative paths begin where the run was started.

    Raises
    ------
    UserError
        The rate was changed between that checkpoint and the step.
    """
    states = readable_states(run)
    checkpoint = newest_whole_of(run, before=step)
    begun_at = step_of(checkpoint) if checkpoint else 0
    rate = _rate(run, states, begun_at, step)
    changes = {"out": "", "plan": "data", "threads": 0, **changes}
    if checkpoint is not None:
        return resumed_run(str(checkpoint), None, changes, override_rate=rate)
    start = new_run(str(run / RECIPE), changes | {RATE: rate})
    return replace(start, recipe=_placed(start.recipe, states[-1][1].started_in)) if states else start


def _rate(run: Path, states: Sequence[tuple[Path, State]], begun_at: int, step: int) -> float:
    """Return the learning rate of the steps behind `begun_at`, up to this one."""
    now = read_recipe(str(run / RECIPE)).schedule.rate
    saved = saved_recipe(*states[-1]).schedule.rate if states else now
    changes = _changes(run, states, saved, now)
    for change in changes:
        if begun_at < change.step < step:
            raise UserError(
                f"step: got {step}; the rate was changed after step {change.step}, of which no checkpoint "
                f"is left: must be up to {change.step}"
            )
    past = [change.after for change in changes if change.step <= begun_at]
    coming = [change.before for change in changes if change.step >= step]
    return past[-1] if past else coming[0] if coming else saved


def _changes(run: Path, states: Sequence[tuple[Path, State]], saved: float, now: float) -> list[_Change]:
    """Return what a run has noted of its rate: in its results, or else in its newest checkpoint.

    A run that was killed may have changed it from there on, which only its recipe says.
    """
    if results := results_of(run):
        return _noted(results.get("history"))
    if not states:
        return []
    newest = states[-1][1]
    return [*_noted(newest.history), *([_Change(newest.step, saved, now)] if saved != now else [])]


def _noted(history: object) -> list[_Change]:
    """Return the changes of the rate in a history; what is none is left out."""
    entries = history if isinstance(history, list | tuple) else ()
    found = list[_Change]()
    for each in entries:
        if isinstance(each, dict) and each.get("what") == RATE:
            step, before, after = (each.get(name) for name in ("step", "from", "to"))
            if type(step) is int and _is_number(before) and _is_number(after):
                found.append(_Change(step, before, after))
    return found


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def _placed(recipe: Recipe, started_in: str) -> Recipe:
    """Return a recipe whose paths are those of the folder that the run was started in."""
    recipe = placed(recipe, started_in, {})
    if not recipe.init:
        return recipe
    there = Path(started_in) / expand(recipe.init, "init")
    return replace(recipe, init=str(there)) if there.exists() else recipe
