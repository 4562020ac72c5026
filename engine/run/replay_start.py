"""Where the replay of a step starts: at the checkpoint before it, with the rate that the step had."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.config.errors import UserError
from engine.config.recipe import read_recipe
from engine.run.checkpoint import read_state, saved_recipe
from engine.run.history import RATE
from engine.run.kept_checkpoints import checkpoints_of, step_of
from engine.run.run_folder import RECIPE
from engine.run.start import Start, new_run, resumed_run
from engine.run.state import State
from engine.run.whole import newest_whole_of


def start_before(run: Path, step: int, changes: Mapping[str, Any]) -> Start:
    """Return a start at the newest whole checkpoint before a step, or the run's beginning; it writes nothing.

    The plan is "data" and the threads are this machine's, unless `changes` say otherwise: no bit knows them.

    Raises
    ------
    UserError
        A rate was overridden between that checkpoint and the step.
    """
    states = _states(run)
    checkpoint = newest_whole_of(run, before=step)
    begun_at = step_of(checkpoint) if checkpoint else 0
    rate = _rate(run, states, begun_at, step)
    unwritten = {"out": "", "trace": "", "plan": "data", "threads": 0, "hash_every": 0, **changes}
    if checkpoint is None:
        return replace(new_run(str(run / RECIPE), unwritten | {RATE: rate}), has_folder=False)
    return replace(resumed_run(str(checkpoint), None, unwritten, override_rate=rate), has_folder=False)


def _states(run: Path) -> list[tuple[Path, State]]:
    """Return the checkpoints whose state can be read, the newest last."""
    found = []
    for checkpoint in checkpoints_of(run):
        with suppress(UserError):
            found.append((checkpoint, read_state(checkpoint)))
    return found


def _rate(run: Path, states: list[tuple[Path, State]], begun_at: int, step: int) -> float:
    """Return the learning rate of the steps behind `begun_at`, up to this one.

    The newest checkpoint knows the rates before it; behind it the run had that of its recipe.
    """
    now = read_recipe(str(run / RECIPE)).schedule.rate
    if not states:
        return now
    checkpoint, newest = states[-1]
    rates = [(each["step"], each["from"]) for each in newest.history if each.get("what") == RATE]
    rates.append((newest.step, saved_recipe(checkpoint, newest).schedule.rate))
    later = [(until, rate) for until, rate in rates if until > begun_at]
    until, rate = later[0] if later else (step, now)
    following = later[1][1] if len(later) > 1 else now
    if until < step and rate != following:
        raise UserError(
            f"step: got {step}; the rate was changed after step {until}, of which no checkpoint is left: "
            f"must be up to {until}"
        )
    return float(rate)
