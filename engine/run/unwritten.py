"""A run that is not written down: some steps from a start on, for what they show."""

from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import Any, TypeVar

from comm.communicator import Communicator
from engine.config.recipe import Recipe
from engine.host.stop_signals import stop_signals
from engine.run.beginning import begin, end_if_asked
from engine.run.building import build_trainer
from engine.run.compiling import compilation_said
from engine.run.late_ranks import late_ranks_said
from engine.run.launch import ending_together
from engine.run.log import RunLog
from engine.run.results import greet
from engine.run.start import Start
from engine.run.trainer import Trainer

T = TypeVar("T")

IsLast = Callable[[Mapping[str, Any]], bool]
"""Says of a step's record whether it is the last, alike on all ranks."""


def unwritten(recipe: Recipe) -> Recipe:
    """Return a recipe that computes the same steps, and neither evaluates, nor saves, nor stops early."""
    return replace(
        recipe,
        evaluate_every=0,
        hash_every=0,
        checkpoint_every=0,
        checkpoint_steps=0,
        keep_best="off",
        stop_after=0,
        out="",
        trace="",
        track=(),
    )


def run_unwritten(
    world: Communicator,
    resolve: Callable[[], Start],
    is_last: IsLast,
    seen: Callable[[Trainer], T],
    *,
    total_steps: Callable[[Trainer], int] = lambda trainer: trainer.total_steps,
) -> T:
    """Run steps until `is_last` says so, or all of them; return what `seen` makes of it (collective).

    Parameters
    ----------
    seen
        Is called behind the last step.
    total_steps
        Where the progress that is shown ends; may raise RunEndedError, alike on all ranks.

    Raises
    ------
    UserError
        As in `engine.run.launch.run`.
    """
    prepared, cores, places = begin(world, lambda: _unwritten_start(resolve()))
    with ending_together(world):
        trainer = build_trainer(world, prepared, cores, None, check_folder=places.check)
        end_if_asked(world)
        try:
            found = _run(trainer, is_last, seen, total_steps(trainer), speaks=world.rank == 0)
        except BaseException:
            if world.size == 1:  # nobody is waited for: the thread must not outlive the run
                trainer.rank.queue.close()
            raise
        trainer.rank.queue.close()
    return found


def _unwritten_start(start: Start) -> Start:
    return replace(start, recipe=unwritten(start.recipe), has_folder=False)


def _run(
    trainer: Trainer, is_last: IsLast, seen: Callable[[Trainer], T], total_steps: int, *, speaks: bool
) -> T:
    first = trainer.progress.step
    with (
        RunLog(None, total_steps=total_steps, first_step=first, speaks=speaks) as log,
        closing(trainer.context.threads),
        stop_signals() as stop,
        late_ranks_said(trainer.rank.queue, trainer.control),
        compilation_said(log.say) if speaks else nullcontext(),
    ):
        greet(trainer, log)
        trainer.train_until(is_last, log, stop)
        return seen(trainer)
