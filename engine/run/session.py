"""A run of one rank from its greeting to its results."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from typing import Any

from engine.host.stop_signals import stop_signals
from engine.profile.breakdown import Breakdown, combine
from engine.run.callbacks import Beginning, Callback, Callbacks
from engine.run.communication_cost import communication_alone
from engine.run.compiling import compilation_said
from engine.run.environment import Surroundings
from engine.run.late_ranks import late_ranks_said
from engine.run.log import RunLog
from engine.run.looking import looking
from engine.run.results import describe, greet
from engine.run.stalls import StallWatch
from engine.run.tracked import trackers_of
from engine.run.trainer import Trainer

NOTHING_KNOWN = Surroundings()


def run_session(
    trainer: Trainer,
    callbacks: Sequence[Callback] = (),
    *,
    around: Surroundings = NOTHING_KNOWN,
    looked_after: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> dict[str, Any]:
    """Train to the end, measure the communication alone, and return the content of `run.json` (collective).

    A wish to end of any rank (`engine.host.stop_signals`), or a callback that stops the run, ends it after
    the step that all ranks are in, with a checkpoint; the result then has ``interrupted: true``. The
    trainer's threads are closed.

    Parameters
    ----------
    around
        What is known already, to be kept with the results.
    looked_after
        Entered while the session itself looks for late ranks.
    """
    started, first = time.perf_counter(), trainer.progress.step
    with (
        RunLog(
            trainer.folder,
            total_steps=trainer.total_steps,
            first_step=first,
            check_folder=trainer.check_folder,
        ) as log,
        closing(trainer.context.threads),
        stop_signals() as stop,
        late_ranks_said(trainer.rank.queue, trainer.control, lost_after=trainer.recipe.lost_after) as late,
        looked_after(),
        looking(_stall_watch(trainer).look, "stalls"),
        nullcontext() if trainer.folder is None else compilation_said(log.say),
        closing(_called(trainer, callbacks, log)) as called,
    ):
        greet(trainer, log)
        trainer.train(log, called, stop)
        seconds = time.perf_counter() - started
        breakdown = _where_the_time_went(trainer, seconds)
        around = replace(around, warnings=(*around.warnings, *late, *log.warnings))
        results = describe(trainer, seconds, breakdown, around)
        log.finish(results)
        called.on_end(results)
    return results


def _called(trainer: Trainer, callbacks: Sequence[Callback], log: RunLog) -> Callbacks:
    """Return the user's callbacks, and the run's trackers behind them."""
    beginning = Beginning(trainer.recipe, trainer.progress.step, trainer.folder, log.warn, log.say)
    return Callbacks((*callbacks, *trackers_of(trainer)), trainer.rank, beginning)


def _stall_watch(trainer: Trainer) -> StallWatch:
    """Return what looks whether a rank gets on."""
    return StallWatch(
        trainer.control,
        trainer.recorder,
        trainer.rank.queue,
        laps=trainer.progress.laps,
        step=lambda: trainer.progress.step,
        end_after=trainer.recipe.stalled_after,
    )


def _where_the_time_went(trainer: Trainer, run_seconds: float) -> Breakdown | None:
    cost, recorder = None, trainer.recorder
    if trainer.progress.laps and not trainer.progress.interrupted:
        with recorder.doing("communication alone"):
            cost = communication_alone(
                trainer.rank, trainer.context, trainer.control, run_seconds=run_seconds
            )
    return combine(trainer.control.gather_objects(recorder.steady()), cost)
