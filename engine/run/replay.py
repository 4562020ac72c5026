"""A step of a run that was, once more: from the checkpoint before it, to the hash that it had."""

from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any

from comm.communicator import Communicator
from engine.host.stop_signals import stop_signals
from engine.run.building import build_trainer
from engine.run.compiling import compilation_said
from engine.run.failures import RunEndedError
from engine.run.late_ranks import late_ranks_said
from engine.run.launch import begin, end_if_asked, ending_together
from engine.run.log import RunLog
from engine.run.recorded import STATE, WEIGHTS, Recorded
from engine.run.results import greet
from engine.run.start import Start
from engine.run.trainer import Trainer
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

    def start() -> Start:
        begins, recorded = resolve()
        found.append(recorded)
        return begins

    prepared, cores, places = begin(world, start)
    (recorded,) = found
    with ending_together(world):
        trainer = build_trainer(world, prepared, cores, None, check_folder=places.check)
        end_if_asked(world)
        begun_at = trainer.progress.step
        try:
            hashed = _replayed(trainer, recorded.step, speaks=world.rank == 0)
        except BaseException:
            if world.size == 1:  # nobody is waited for: the thread must not outlive the replay
                trainer.rank.queue.close()
            raise
        trainer.rank.queue.close()
    return None if hashed is None else Replay(recorded, begun_at, hashed[WEIGHTS], hashed[STATE])


def _replayed(trainer: Trainer, step: int, *, speaks: bool) -> dict[str, Any] | None:
    first = trainer.progress.step
    if step > trainer.total_steps:
        raise RunEndedError(f"step: got {step}; the run's recipe ends with step {trainer.total_steps}")
    with (
        RunLog(None, total_steps=step, first_step=first, speaks=speaks) as log,
        closing(trainer.context.threads),
        stop_signals() as stop,
        late_ranks_said(trainer.rank.queue, trainer.control),
        compilation_said(log.say) if speaks else nullcontext(),
    ):
        greet(trainer, log)
        trainer.train_until(lambda record: record["step"] == step, log, stop)
        return hashes(trainer.rank) if trainer.progress.step == step else None
