"""A learning-rate range test: a run of a few steps whose rate rises, until its loss diverges."""

from collections.abc import Callable
from dataclasses import replace

from comm.communicator import Communicator
from engine.config.errors import UserError
from engine.config.recipe import Recipe, ScheduleFields
from engine.run.rate_curve import RateCurve
from engine.run.start import Start
from engine.run.unwritten import run_unwritten

LEAST_STEPS = 10
"""Fewer tell nothing of a slope."""
_LOWEST, _HIGHEST = 1e-9, 1e20  # an exponential schedule's share ends below 1e30


def rising(recipe: Recipe, lowest: float, highest: float, steps: int) -> Recipe:
    """Return the recipe of a test: as many steps, in which the rate rises from the lowest to the highest one.

    Raises
    ------
    UserError
        Rates or steps that make no test.
    """
    if not _LOWEST <= lowest < highest <= _HIGHEST:
        raise UserError(
            f"from, to: got {lowest:g} and {highest:g}; must be rates from {_LOWEST:g} to "
            f"{_HIGHEST:g}, the second larger"
        )
    if steps < LEAST_STEPS:
        raise UserError(f"steps: got {steps}; must be at least {LEAST_STEPS}")
    course = ScheduleFields("exponential", lowest, end=highest / lowest, rates=recipe.schedule.rates)
    return replace(recipe, steps=steps, schedule=course, epochs=0)


def range_test(world: Communicator, resolve: Callable[[], Start]) -> tuple[RateCurve, bool]:
    """Run the test that `resolve` returns; return its curve, and whether it was interrupted (collective).

    Nothing is written. The curve is the same on all ranks, and on any number of them.

    Raises
    ------
    UserError
        As in `engine.run.launch.run`.
    """
    curve = RateCurve()
    is_interrupted = run_unwritten(world, resolve, curve.add, lambda trainer: trainer.progress.interrupted)
    return curve, is_interrupted
