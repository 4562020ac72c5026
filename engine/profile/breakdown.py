"""Where the time of a run went: the mean over its steady steps and ranks, as a table and as JSON."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.config.wording import counted
from engine.profile.recorder import UPDATE, StepSums
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD

SHOWN_LAYERS = 4  # of exposed communication; the others in one row
_WIDTH = 24  # of the names; a bucket's may be longer


@dataclass(frozen=True)
class Breakdown:
    """Means per step, in seconds; the seven parts from `forward` to `rest` add up to `step_seconds`.

    On one rank there is no communication: what the communication thread holds up there is the update.
    """

    steps: int
    """Steps in the means; the first few are left out."""
    step_seconds: float
    forward_seconds: float
    backward_weights_seconds: float
    backward_data_seconds: float
    update_seconds: float
    """Updates of weights that the main thread did itself or, on one rank, waited for."""
    exposed_communication_seconds: float
    """Main thread held up by jobs of the communication thread, for late ranks and updates too."""
    data_wait_seconds: float
    rest_seconds: float
    exposed_communication_seconds_by_layer: dict[str, float]
    """The same by the layer of a job, or its bucket of several ("conv1..fc3"); longest first."""
    compute_seconds_by_rank: list[float]
    slowest_rank: int
    imbalance: float
    """Compute of the slowest rank over the mean."""
    communication_alone_seconds: float | None
    """The communication of a step with nothing to compute; None where it was not measured."""
    hidden_share: float | None
    """Of the communication: 1 - waiting for messages / alone, or 0 where the wait is longer."""
    waiting_for_slower_ranks_seconds: float | None = None
    """Part of the exposed communication: in each step, what the rank that was busy longest was busy longer.
    Ranks that wait for one another in turn within a step wait longer for each other than that."""
    waiting_for_messages_seconds: float | None = None
    """The other part: messages under way, and what the communication thread computes between them."""
    seconds_by_layer: dict[str, dict[str, float]] = field(default_factory=dict)
    """The passes of each layer that it has, by their names, in the order of the network."""

    def to_json(self) -> dict[str, Any]:
        """Return the table as `run.json` holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, table: Any) -> "Breakdown":
        """Return the breakdown of a table that `to_json` made; ValueError for any other table."""
        try:
            breakdown = cls(**table)
            _check(breakdown)
            breakdown.lines()
        except (TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
            raise ValueError(f"no such table: {error}") from error
        return breakdown

    def lines(self) -> list[str]:
        """Return the table as lines of text."""
        layers = list(self.exposed_communication_seconds_by_layer.items())
        rows = [
            ("forward", self.forward_seconds),
            ("backward weights", self.backward_weights_seconds),
            ("backward data", self.backward_data_seconds),
            ("update", self.update_seconds),
            ("exposed communication", self.exposed_communication_seconds),
        ]
        late, messages = self.waiting_for_slower_ranks_seconds, self.waiting_for_messages_seconds
        if late is not None and messages is not None:
            rows += [("  for slower ranks", late), ("  for messages", messages)]
        rows += [(f"  in {layer}", seconds) for layer, seconds in layers[:SHOWN_LAYERS]]
        if others := layers[SHOWN_LAYERS:]:
            rows.append((f"  in {len(others)} others", sum(seconds for _, seconds in others)))
        rows += [("wait for data", self.data_wait_seconds), ("rest", self.rest_seconds)]
        width = max(_WIDTH, *(len(name) for name, _ in rows))
        lines = [
            f"where the time went: {_ms(self.step_seconds)} a step (mean of {counted(self.steps, 'step')})"
        ]
        lines += [
            f"  {name:<{width}}{_ms(seconds):>12}{seconds / self.step_seconds:>8.1%}"
            for name, seconds in rows
        ]
        if len(self.compute_seconds_by_rank) > 1:
            slowest = self.compute_seconds_by_rank[self.slowest_rank]
            lines += [
                f"compute of the slowest rank, {self.slowest_rank}: {_ms(slowest)}, "
                f"{self.imbalance:.2f} x the mean"
            ]
        if self.communication_alone_seconds is not None and self.hidden_share is not None:
            lines += [
                "communication alone, with nothing to compute: "
                f"{_ms(self.communication_alone_seconds)} a step; "
                f"{self.hidden_share:.0%} of it hidden behind computation"
            ]
        return lines


def _check(breakdown: Breakdown) -> None:
    """Raise ValueError for numbers that no run has: they may come from any file."""
    for name, value in vars(breakdown).items():
        if not _CHECKS.get(name, _is_positive)(value):
            raise ValueError(f"{name} is {value!r}")
    if breakdown.step_seconds <= 0:
        raise ValueError(f"a step of {breakdown.step_seconds} seconds")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value >= -_ROUNDING_S


def _is_positive_or_none(value: Any) -> bool:
    return value is None or _is_positive(value)


_ROUNDING_S = 1e-6  # of differences of clocks
_CHECKS: dict[str, Callable[[Any], bool]] = {
    "steps": lambda value: type(value) is int and value > 0,
    "slowest_rank": lambda value: type(value) is int and value >= 0,
    "rest_seconds": _is_number,
    "exposed_communication_seconds_by_layer": lambda value: all(map(_is_positive, value.values())),
    "compute_seconds_by_rank": lambda value: all(map(_is_positive, value)),
    "seconds_by_layer": lambda value: isinstance(value, dict),
    "communication_alone_seconds": _is_positive_or_none,
    "hidden_share": _is_positive_or_none,
    "waiting_for_slower_ranks_seconds": _is_positive_or_none,
    "waiting_for_messages_seconds": _is_positive_or_none,
}
"""What a figure can be, where that is not a number of at least 0."""
_NOTHING_S = 1e-9  # rounding that is left when the waits of the first steps are subtracted from all


def combine(ranks: Sequence[StepSums], communication_alone: float | None) -> Breakdown | None:
    """Return the means over ranks and steps; None where a rank has no steady step.

    Parameters
    ----------
    ranks
        The sums of every rank, in rank order.
    communication_alone
        Seconds that the communication of one step takes by itself; None where it was not measured.
    """
    if not all(sums.steps for sums in ranks):
        return None
    waits = [_by_layer(sums) for sums in ranks]
    compute = [
        {name: seconds / sums.steps for name, seconds in sums.compute.items()}
        | {"wall": sums.wall / sums.steps, "data": sums.data / sums.steps}
        for sums in ranks
    ]
    if len(ranks) == 1:
        compute[0][UPDATE] = compute[0].get(UPDATE, 0.0) + sum(waits[0].values())
        waits[0].clear()

    def mean(name: str) -> float:
        return sum(each.get(name, 0.0) for each in compute) / len(ranks)

    layers = {name for each in waits for name in each}
    exposed = {name: sum(each.get(name, 0.0) for each in waits) / len(ranks) for name in sorted(layers)}
    exposed = {name: seconds for name, seconds in exposed.items() if seconds > _NOTHING_S}
    by_layer = dict(sorted(exposed.items(), key=lambda item: -item[1]))
    total = sum(by_layer.values())
    late = None if len(ranks) == 1 else min(total, _waiting_for_slower_ranks(ranks))
    messages = total if late is None else total - late
    passes = (FORWARD, BACKWARD_WEIGHTS, BACKWARD_DATA, UPDATE)
    by_rank = [sum(each.get(name, 0.0) for name in passes) for each in compute]
    mean_compute = sum(by_rank) / len(ranks)
    return Breakdown(
        steps=min(sums.steps for sums in ranks),
        step_seconds=mean("wall"),
        forward_seconds=mean(FORWARD),
        backward_weights_seconds=mean(BACKWARD_WEIGHTS),
        backward_data_seconds=mean(BACKWARD_DATA),
        update_seconds=mean(UPDATE),
        exposed_communication_seconds=total,
        data_wait_seconds=mean("data"),
        rest_seconds=mean("wall") - mean_compute - total - mean("data"),
        exposed_communication_seconds_by_layer=by_layer,
        compute_seconds_by_rank=by_rank,
        slowest_rank=by_rank.index(max(by_rank)),
        imbalance=max(by_rank) / mean_compute if mean_compute else 1.0,
        communication_alone_seconds=communication_alone,
        hidden_share=max(0.0, 1 - messages / communication_alone) if communication_alone else None,
        waiting_for_slower_ranks_seconds=late,
        waiting_for_messages_seconds=None if late is None else messages,
        seconds_by_layer=_compute_by_layer(ranks),
    )


def _waiting_for_slower_ranks(ranks: Sequence[StepSums]) -> float:
    """Return the mean over ranks and steps of how much longer the rank was busy that was so longest."""
    steps = list(zip(*(sums.busy for sums in ranks), strict=False))  # a trace may have been cut off
    return sum(max(busy) - sum(busy) / len(busy) for busy in steps) / len(steps) if steps else 0.0


def _by_layer(sums: StepSums) -> dict[str, float]:
    """Add the jobs of a layer or bucket ("reduce fc6", "update fc6") and divide by the steps."""
    layers = dict[str, float]()
    for job, seconds in sums.waits.items():
        layer = job.partition(" ")[2] or job
        layers[layer] = layers.get(layer, 0.0) + seconds / sums.steps
    return layers


def _compute_by_layer(ranks: Sequence[StepSums]) -> dict[str, dict[str, float]]:
    """Return the means of the passes; ranks of a plan may have layers that others lack."""
    found = dict[str, dict[str, float]]()
    for sums in ranks:
        for (layer, direction), seconds in sums.layers.items():
            passes = found.setdefault(layer, {})
            passes[direction] = passes.get(direction, 0.0) + seconds / sums.steps / len(ranks)
    return found


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.2f} ms"
