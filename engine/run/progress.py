"""How far a run has come."""

from dataclasses import dataclass, field

from engine.profile.step_clock import Lap


@dataclass
class Progress:
    """How far a run has come; the results are the same on all ranks."""

    step: int
    saved_step: int
    evaluated_step: int = -1
    epoch_loss: float | None = 0.0
    """Sum over the samples of the epoch so far; None where a checkpoint of an earlier version has none."""
    interrupted: bool = False
    stopped_early: bool = False
    results: dict[str, float | None] = field(
        default_factory=lambda: dict.fromkeys(("final_loss", "test_loss", "test_accuracy"))
    )
    laps: list[Lap] = field(default_factory=list)
