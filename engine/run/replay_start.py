"""Where a step of a run that was is computed from again: a checkpoint before it, and its rate."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from engine.config.errors import UserError
from engine.config.paths import expand
from engine.config.recipe import Recipe, read_recipe
from engine.run.checkpoint import saved_recipe
from engine.run.history import RATE
from engine.run.recorded import readable_states, results_of
from engine.run.resumed_recipe import placed
from engine.run.run_folder import RECIPE
from engine.run.start import Start, new_run, resumed_run, unwritten
from engine.run.state import State


class _Change(NamedTuple):
    """Of the learning rate, as a run went on from a step."""

    step: int
    before: float
    after: float


def start_before(run: Path, step: int, changes: dict[str, Any]) -> Start:
    """Return a start at the newest checkpoint before a step, or the run's beginning; it writes nothing.

    Checkpoints that say nothing are passed over. The learning rate is the one that the run had then.

    Raises
    ------
    UserError
        The rate has changed in between.
    """
    states = readable_states(run)
    before = [(path, state) for path, state in states if state.step < step]
    begins = before[-1][1].step if before else 0
    rate = _rate(_changes(run, states), begins, step)
    nowhere = {"out": "", "trace": "", **changes}
    if before:
        start = resumed_run(str(before[-1][0]), None, nowhere, override_rate=rate)
    else:
        start = new_run(str(run / RECIPE), nowhere if rate is None else {**nowhere, RATE: rate})
        if states:
            start = replace(start, recipe=_placed(start.recipe, states[-1][1].started_in))
    return replace(start, recipe=unwritten(start.recipe), has_folder=False)


def _changes(run: Path, states: Sequence[tuple[Path, State]]) -> list[_Change]:
    """Return what a run has noted of its rate: in its results, or else in its newest checkpoint.

    A run that was killed may have changed it from there on, which only its recipe says.
    """
    if results := results_of(run):
        return _noted(results.get("history"))
    if not states:
        return []
    checkpoint, state = states[-1]
    was, now = saved_recipe(checkpoint, state).schedule.rate, read_recipe(str(run / RECIPE)).schedule.rate
    return [*_noted(state.history), *([_Change(state.step, was, now)] if was != now else [])]


def _noted(history: object) -> list[_Change]:
    """Return the changes of the rate in a history; what is none is left out."""
    entries = history if isinstance(history, (list, tuple)) else ()
    found = list[_Change]()
    for each in entries:
        if isinstance(each, dict) and each.get("what") == RATE:
            step, before, after = (each.get(name) for name in ("step", "from", "to"))
            if type(step) is int and _is_number(before) and _is_number(after):
                found.append(_Change(step, before, after))
    return found


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def _rate(changes: Sequence[_Change], begins: int, step: int) -> float | None:
    """Return the rate of the steps behind `begins`, up to `step`; None: it was never changed."""
    for change in changes:
        if begins < change.step < step:
            raise UserError(
                f"step: got {step}; the run went on with another rate after step {change.step}, whose "
                f"checkpoint is not there any more; must be a step up to {change.step}"
            )
    past = [change.after for change in changes if change.step <= begins]
    coming = [change.before for change in changes if change.step >= step]
    return past[-1] if past else coming[0] if coming else None


def _placed(recipe: Recipe, started_in: str) -> Recipe:
    """Return a recipe whose paths are those of the folder that the run was started in."""
    recipe = placed(recipe, started_in, {})
    if not recipe.init:
        return recipe
    there = Path(started_in) / expand(recipe.init, "init")
    return replace(recipe, init=str(there)) if there.exists() else recipe
