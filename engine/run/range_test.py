"""A learning-rate range test: a run of a few steps whose rate rises, until its loss diverges."""

from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import replace

from comm.communicator import Communicator
from engine.config.errors import UserError
from engine.config.recipe import TOO_LARGE, Recipe, ScheduleFields
from engine.host.stop_signals import stop_signals
from engine.run.building import build_trainer
from engine.run.compiling import compilation_said
from engine.run.late_ranks import late_ranks_said
from engine.run.launch import begin, end_if_asked, ending_together
from engine.run.log import RunLog
from engine.run.rate_curve import RateCurve
from engine.run.results import greet
from engine.run.start import Start, unwritten
from engine.run.trainer import Trainer

LEAST_STEPS = 10
"""Fewer tell nothing of a slope."""


def rising(recipe: Recipe, lowest: float, highest: float, steps: int) -> Recipe:
    """Return the recipe of a test: as many steps, in which the rate rises from the lowest to the highest one.

    Raises
    ------
    UserError
        Rates or steps that make no test.
    """
    if not (0 < lowest < highest < TOO_LARGE and highest / lowest < TOO_LARGE):
        raise UserError(
            f"from, to: got {lowest:g} and {highest:g}; must be rates above 0, the second larger by a "
            f"factor, and it and the factor below {TOO_LARGE:g}"
        )
    if steps < LEAST_STEPS:
        raise UserError(f"steps: got {steps}; must be at least {LEAST_STEPS}")
    course = ScheduleFields("exponential", lowest, end=highest / lowest, rates=recipe.schedule.rates)
    return replace(unwritten(recipe), steps=steps, schedule=course, epochs=0)


def range_test(world: Communicator, resolve: Callable[[], Start]) -> tuple[RateCurve, bool]:
    """Run the test that `resolve` returns; return its curve, and whether it was interrupted (collective).

    Nothing is written. The curve is the same on all ranks, and on any number of them.

    Raises
    ------
    UserError
        As in `engine.run.launch.run`.
    """
    prepared, cores, places = begin(world, lambda: replace(resolve(), has_folder=False))
    with ending_together(world):
        trainer = build_trainer(world, prepared, cores, None, check_folder=places.check)
        end_if_asked(world)
        try:
            curve = _measured(trainer, speaks=world.rank == 0)
        except BaseException:
            if world.size == 1:  # nobody is waited for: the thread must not outlive the test
                trainer.rank.queue.close()
            raise
        trainer.rank.queue.close()
    return curve, trainer.progress.interrupted


def _measured(trainer: Trainer, *, speaks: bool) -> RateCurve:
    curve = RateCurve()
    with (
        RunLog(None, total_steps=trainer.total_steps, first_step=0, speaks=speaks) as log,
        closing(trainer.context.threads),
        stop_signals() as stop,
        late_ranks_said(trainer.rank.queue, trainer.control),
        compilation_said(log.say) if speaks else nullcontext(),
    ):
        greet(trainer, log)
        trainer.train_until(curve.add, log, stop)
    return curve
