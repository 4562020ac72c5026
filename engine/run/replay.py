"""A step of a run that was, once more: from the checkpoint before it, to the hash that it had."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from comm.communicator import Communicator
from engine.run.failures import RunEndedError
from engine.run.recorded import STATE, WEIGHTS, Recorded
from engine.run.start import Start
from engine.run.trainer import Trainer
from engine.run.unwritten import run_unwritten
from engine.run.weight_checks import hashes


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

    def end(trainer: Trainer) -> int:
        step = found[0].step
        if step > trainer.total_steps:
            raise RunEndedError(f"step: got {step}; the run's recipe ends with step {trainer.total_steps}")
        return step

    def hashed(trainer: Trainer) -> dict[str, Any] | None:
        return hashes(trainer.rank) if trainer.progress.step == found[0].step else None

    here = run_unwritten(
        world,
        start,
        lambda record: record["step"] == found[0].step,
        hashed,
        total_steps=end,
    )
    return None if here is None else Replay(found[0], begun[0], here[WEIGHTS], here[STATE])
