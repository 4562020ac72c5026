"""The best evaluation of a run so far, and when there has been none better for long enough."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.config.wording import counted

LOSS = "test_loss"


@dataclass(frozen=True)
class Best:
    """The best evaluation that a run has had: a part of its checkpoints, so that it goes on exactly."""

    metric: str
    """By which it is the best: "test_accuracy" or "test_loss"."""
    value: float
    step: int
    evaluated: int
    """Step of the last evaluation that has been compared."""
    without: int = 0
    """Evaluations since the best one."""

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "Best":
        """Return what `asdict` has written; ValueError or KeyError for anything else."""
        kinds = {
            "metric": (str,),
            "value": (int, float),
            "step": (int,),
            "evaluated": (int,),
            "without": (int,),
        }
        for name, allowed in kinds.items():
            if type(written[name]) not in allowed:
                raise ValueError(f"best.{name} is {written[name]!r}")
        return cls(**{name: written[name] for name in kinds})


class Comparison:
    """Compares the evaluations of a run with the best one.

    Parameters
    ----------
    metric
        Of `Best`; empty: nothing is compared.
    stop_after
        Evaluations without a better one after which the run ends; 0: never.
    """

    def __init__(self, metric: str, stop_after: int):
        self.metric, self._stop_after = metric, stop_after
        self.best: Best | None = None
        """Of all evaluations."""
        self.regular: Best | None = None
        """Of those at the ends of epochs. One at the end of a run, that would not have been in a longer one,
        does not count for when to stop."""

    def begin(self, saved: Best | None, noted: Best | None) -> None:
        """Go on from what a checkpoint says, and from what is noted of all; other metrics do not count.

        A checkpoint of an earlier version says nothing.
        """
        saved, noted = (each if each and each.metric == self.metric else None for each in (saved, noted))
        self.regular = saved or noted
        self.best = saved and noted and compared(saved, self.metric, noted.value, noted.step)
        self.best = self.best or self.regular

    def compare(self, value: float, step: int, *, is_regular: bool) -> bool:
        """Take in the figure of a step, and say whether it is the best."""
        self.best = compared(self.best, self.metric, value, step)
        if is_regular:
            self.regular = compared(self.regular, self.metric, value, step)
        return self.best is not None and self.best.step == step

    def lacks(self, step: int) -> bool:
        """Say whether the regular evaluation of a step has not been compared."""
        return bool(self.metric) and (self.regular is None or self.regular.evaluated < step)

    @property
    def is_enough(self) -> bool:
        """Whether there has been none better for so long that the run ends."""
        return self._stop_after > 0 and self.regular is not None and self.regular.without >= self._stop_after

    def line(self, step: int) -> str:
        """Return what is said of a run that ends so after a step."""
        best = self.regular
        assert best is not None
        return (
            f"stopped after step {step}: no better {best.metric} than {best.value:.4f} of step {best.step} "
            f"in {counted(best.without, 'evaluation')}"
        )


def compared(best: Best | None, metric: str, value: float, step: int) -> Best | None:
    """Return the best evaluation, given the one so far and a new one; a value that is not finite never is.

    None where there was none before. Equal ones are not better: the first counts.
    """
    if math.isfinite(value) and (best is None or _is_better(metric, value, best.value)):
        return Best(metric, value, step, evaluated=step)
    return best and replace(best, evaluated=step, without=best.without + 1)


def _is_better(metric: str, value: float, than: float) -> bool:
    return value < than if metric == LOSS else value > than
