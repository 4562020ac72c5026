"""Hashes that a run has written down of its steps."""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.config.errors import UserError
from engine.config.files import read_bytes, reading
from engine.run.checkpoint import read_state
from engine.run.kept_checkpoints import checkpoints_of
from engine.run.run_folder import METRICS, RECIPE, RESULTS
from engine.run.state import State

WEIGHTS, STATE = "weights_sha256", "state_sha256"
_NEAR = 6  # steps that an error names


@dataclass(frozen=True)
class Recorded:
    """What a run has written down of a step."""

    step: int
    weights_sha256: str
    state_sha256: str | None
    """None where it is not known, or the network has no state."""
    source: str
    """The file that says so."""


def recorded_hashes(run: Path) -> dict[int, Recorded]:
    """Return what the metrics, the checkpoints and the results of a run say of its steps' hashes, by step.

    Raises
    ------
    UserError
        There is no run, or one of its files cannot be read.
    """
    if not (run / RECIPE).is_file():
        raise UserError(f"{run}: is no run's folder: it holds no {RECIPE}")
    found = {each.step: each for each in _of_checkpoints(run)}
    lines = map(_object, _content(run / METRICS).splitlines())
    found |= {each.step: each for each in _of_records([results_of(run)], run / RESULTS)}
    found |= {each.step: each for each in _of_records(lines, run / METRICS)}
    return found


def readable_states(run: Path) -> list[tuple[Path, State]]:
    """Return the checkpoints of a run that say where they stand, the newest last."""
    found = list[tuple[Path, State]]()
    for checkpoint in checkpoints_of(run):
        with suppress(UserError):  # damaged: others may do
            found.append((checkpoint, read_state(checkpoint)))
    return found


def results_of(run: Path) -> dict[str, Any]:
    """Return what a run has written at its end; nothing where there is none, or no JSON."""
    return _object(_content(run / RESULTS))


def _of_checkpoints(run: Path) -> Iterator[Recorded]:
    for checkpoint, state in readable_states(run):
        if state.weights_sha256:
            yield Recorded(state.step, state.weights_sha256, None, str(checkpoint))


def _of_records(records: Iterable[dict[str, Any]], source: Path) -> Iterator[Recorded]:
    for record in records:
        step, weights = record.get("step", record.get("steps")), record.get(WEIGHTS)
        if type(step) is int and step > 0 and isinstance(weights, str):
            state = record.get(STATE)
            yield Recorded(step, weights, state if isinstance(state, str) else None, str(source))


def _content(path: Path) -> bytes:
    with reading(path):
        return read_bytes(path) if path.exists() else b""


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # the last line of a run that was killed
        return {}
    return found if isinstance(found, dict) else {}


def chosen(recorded: dict[int, Recorded], step: int | None) -> Recorded:
    """Return what is recorded of a step, or of the last one that has a hash; UserError where nothing is."""
    if not recorded:
        raise UserError("step: the run has written no hash of its weights; --hash-every N makes it do so")
    if step is None:
        return recorded[max(recorded)]
    if step not in recorded:
        near = sorted(recorded, key=lambda each: (abs(each - step), each))[:_NEAR]
        raise UserError(
            f"step: got {step}, of which the run has written no hash; it has of {_listed(sorted(near))}"
        )
    return recorded[step]


def _listed(steps: list[int]) -> str:
    return ", ".join(map(str, steps))
