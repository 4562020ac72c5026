"""What was changed when a run went on: kept in its checkpoints and results, and said when it begins."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from engine.run.state import State

RATE = "schedule.rate"
"""The field that `--override-rate` changes."""
TEST_SET = "test set"


def changed(state: State, what: str, was: Any, now: Any) -> State:
    """Return the state of a run that goes on, with a change in its history if there is one."""
    if was == now:
        return state
    change = {"step": state.step, "what": what, "from": was, "to": now}
    return replace(state, history=(*state.history, change))


def said(state: State) -> Iterator[str]:
    """Yield a line for each change with which a run goes on from here."""
    for each in state.history:
        if each.get("step") == state.step and each.get("what") in _MEANING:
            line = f"{each['what']}: {each.get('from')} up to step {state.step}, {each.get('to')} after it"
            yield f"{line}; {_MEANING[each['what']]}"


_MEANING = {
    RATE: "the run's history keeps it",
    TEST_SET: "evaluations before and after are of other samples, and do not compare",
}
