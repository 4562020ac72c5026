"""The learning rate as a function of the step."""

import math
from dataclasses import dataclass

from engine.config.recipe import ScheduleFields
from engine.training.rounded import cosine, power


@dataclass(frozen=True)
class Schedule:
    """A learning rate that first rises in a straight line over the warm-up, then follows its kind.

    Parameters
    ----------
    kind : str
        "constant"; "step": times `factor` at each milestone; "cosine": half a cosine down to zero at
        the last step; "polynomial": the share of steps that are left, to a power, down to the share `end` of
        the rate at the last step; "one_cycle": in straight lines from the share `start` of the rate up to all
        of it at the step `peak`, and down to the share `end` (Smith and Topin 2018, arXiv:1708.07120).
    rate : float
        The highest rate.
    warmup, milestones, peak, total : int
        Steps; `peak` is counted behind the warm-up.
    """

    kind: str
    rate: float
    warmup: int = 0
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    total: int = 0
    power: int = 1
    start: float = 0.04
    peak: int = 0
    end: float = 0.0

    def at(self, step: int) -> float:
        """Return the rate of a step, counted from 0."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        if self.kind == "step":
            return self.rate * power(self.factor, sum(step >= milestone for milestone in self.milestones))
        if self.kind == "cosine":
            passed = (step - self.warmup) / max(1, self.total - self.warmup)
            return self.rate * 0.5 * (1 + cosine(math.pi * min(1.0, passed)))
        if self.kind in ("polynomial", "one_cycle"):
            return self.rate * self._share(step - self.warmup, self.total - self.warmup)
        return self.rate

    def _share(self, done: int, steps: int) -> float:
        """Return the share of the rate when so many steps of those behind the warm-up are done."""
        if self.kind == "polynomial":
            return self.end + (1 - self.end) * power(_left(done, steps), self.power)
        if done < self.peak:
            return self.start + (1 - self.start) * (done / self.peak)
        return self.end + (1 - self.end) * _left(done - self.peak, steps - self.peak)


def _left(done: int, steps: int) -> float:
    """Return the share of steps that are left: 1 at first, 0 when all are done."""
    return max(0.0, (steps - done) / max(1, steps))


def schedule_of(fields: ScheduleFields, steps_per_epoch: int, total: int) -> Schedule:
    """Return the schedule of a run with so many steps."""
    return Schedule(
        kind=fields.kind,
        rate=fields.rate,
        warmup=round(fields.warmup_epochs * steps_per_epoch),
        milestones=tuple(round(milestone * steps_per_epoch) for milestone in fields.milestones),
        factor=fields.factor,
        total=total,
        power=fields.power,
        start=fields.start,
        peak=round(fields.peak_epochs * steps_per_epoch),
        end=fields.end,
    )
