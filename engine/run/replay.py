"""A step of a run that was, once more: from the checkpoint before it, to the hash that it had."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comm.communicator import Communicator
from engine.config.errors import UserError
from engine.config.files import read_bytes, reading
from engine.run.checkpoint import read_state
from engine.run.kept_checkpoints import checkpoints_of
from engine.run.run_folder import METRICS, RECIPE, RESULTS
from engine.run.start import Start
from engine.run.trainer import Trainer
from engine.run.unwritten import run_unwritten
from engine.run.weight_checks import hashes

WEIGHTS, STATE = "weights_sha256", "state_sha256"


@dataclass(frozen=True)
class Recorded:
    """What a run has written down of a step."""

    step: int
    weights_sha256: str
    state_sha256: str | None
    """None where it is not known, or the network has no state."""
    source: str
    """The file that says so."""


@dataclass(frozen=True)
class Replay:
    """A step that was computed again."""

    recorded: Recorded
    begun_at: int
    """Step of the checkpoint; 0: the beginning of the run."""
    weights_sha256: str
    state_sha256: str | None

    @property
    def is_same(self) -> bool:
        """Whether the hashes are those of the run, as far as it wrote them down."""
        known = self.recorded.state_sha256
        same_state = known is None or known == self.state_sha256
        return self.weights_sha256 == self.recorded.weights_sha256 and same_state


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
    found |= {each.step: each for path in (RESULTS, METRICS) for each in _of_lines(run / path)}
    return found


def _of_checkpoints(run: Path) -> Iterator[Recorded]:
    for checkpoint in checkpoints_of(run):
        try:
            state = read_state(checkpoint)
        except UserError:  # damaged: others may do
            continue
        if state.weights_sha256:
            yield Recorded(state.step, state.weights_sha256, None, str(checkpoint))


def _of_lines(path: Path) -> Iterator[Recorded]:
    with reading(path):
        content = read_bytes(path) if path.exists() else b""
    for line in [content] if path.name == RESULTS else content.splitlines():
        record = _object(line)
        step, weights = record.get("step", record.get("steps")), record.get(WEIGHTS)
        if isinstance(step, int) and isinstance(weights, str):
            state = record.get(STATE)
            yield Recorded(step, weights, state if isinstance(state, str) else None, str(path))


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
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


_NEAR = 6  # steps that an error names


def _listed(steps: list[int]) -> str:
    return ", ".join(map(str, steps))


def replay(world: Communicator, resolve: Callable[[], tuple[Start, Recorded]]) -> Replay | None:
    """Compute a step again; None where a signal ended it before (collective).

    Parameters
    ----------
    resolve
        Returns where to start, and what is recorded of the step.

    Raises
    ------
    UserError
        As in `engine.run.launch.run`.
    """
    found: list[Recorded] = []
    begun: list[int] = []

    def start() -> Start:
        begins, recorded = resolve()
        found.append(recorded)
        begun.append(begins.state.step if begins.state else 0)
        return begins

    def hashed(trainer: Trainer) -> dict[str, Any] | None:
        return hashes(trainer.rank) if trainer.progress.step == found[0].step else None

    here = run_unwritten(
        world,
        start,
        lambda record: record["step"] == found[0].step,
        hashed,
        total_steps=lambda _: found[0].step,
    )
    return None if here is None else Replay(found[0], begun[0], here[WEIGHTS], here[STATE])
