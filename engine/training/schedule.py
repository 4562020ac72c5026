"""The learning rate as a function of the step."""

import math
from dataclasses import dataclass

from engine.training.rounded import cosine, power


@dataclass(frozen=True)
class Schedule:
    """A learning rate that first rises in a straight line over the warm-up, then follows its kind.

    Parameters
    ----------
    kind : str
        "constant"; "step": times `factor` at each milestone; "cosine": half a cosine down to zero at
        the last step.
    rate : float
        The highest rate.
    warmup, milestones, total : int
        Steps.
    """

    kind: str
    rate: float
    warmup: int = 0
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    total: int = 0

    def at(self, step: int) -> float:
        """Return the rate of a step, counted from 0."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        if self.kind == "step":
            return self.rate * power(self.factor, sum(step >= milestone for milestone in self.milestones))
        if self.kind == "cosine":
            passed = (step - self.warmup) / max(1, self.total - self.warmup)
            return self.rate * 0.5 * (1 + cosine(math.pi * min(1.0, passed)))
        return self.rate
