"""Where the time of a run went: the parts of a step, and its layers beside what the planner predicts."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.profile.breakdown import Breakdown
from engine.report.fields import number, numbers, table, text
from engine.report.run_record import RunRecord
from layers.work import PASSES

PARTS = {
    "forward": "forward_seconds",
    "backward_weights": "backward_weights_seconds",
    "backward_data": "backward_data_seconds",
    "update": "update_seconds",
    "wait_for_communication": "exposed_communication_seconds",
    "wait_for_data": "data_wait_seconds",
    "rest": "rest_seconds",
}
"""Parts of a step, by the fields of `engine.profile.breakdown.Breakdown`."""

_WHERE = "where_the_time_went"


@dataclass(frozen=True)
class LayerTime:
    """Seconds of one layer in a step, by pass; empty where they are not known."""

    name: str
    kind: str
    flop_of_pass: float
    """On one rank."""
    measured: dict[str, float]
    predicted: dict[str, float]

    @property
    def measured_seconds(self) -> float | None:
        """Of all passes."""
        return sum(self.measured.values()) if self.measured else None

    @property
    def predicted_seconds(self) -> float | None:
        """Of all passes."""
        return sum(self.predicted.values()) if self.predicted else None

    @property
    def ratio(self) -> float | None:
        """Measured over predicted."""
        measured, predicted = self.measured_seconds, self.predicted_seconds
        return measured / predicted if measured is not None and predicted else None

    @property
    def flop(self) -> float:
        """FLOP of the direct algorithm, in all passes that were measured."""
        return self.flop_of_pass * len(self.measured)

    @property
    def flops_per_s(self) -> float | None:
        """The speed in these FLOP; None for a layer that multiplies nothing."""
        seconds = self.measured_seconds
        return self.flop / seconds if self.flop and seconds else None


def step_seconds(run: RunRecord) -> float | None:
    """Return the mean length of a step."""
    return number(run.results, _WHERE, "step_seconds")


def parts(run: RunRecord) -> dict[str, float]:
    """Return the seconds of each part of a step; nothing where the run does not say it."""
    found = {name: number(run.results, _WHERE, field) for name, field in PARTS.items()}
    return {name: max(0.0, seconds) for name, seconds in found.items() if seconds is not None}


def exposed_by_layer(run: RunRecord) -> dict[str, float]:
    """Return what of the communication held the training up, by layer or bucket."""
    return _seconds(table(run.results, _WHERE, "exposed_communication_seconds_by_layer"))


def layer_times(run: RunRecord) -> list[LayerTime]:
    """Return the layers of a run in the order of the network."""
    measured = table(run.results, _WHERE, "seconds_by_layer")
    predicted = table(run.results, "predicted", "layers")
    names = dict.fromkeys((*measured, *predicted))
    return [
        LayerTime(
            name,
            text(predicted, name, "kind") or "",
            number(predicted, name, "flop") or 0.0,
            _passes(table(measured, name)),
            _passes(table(predicted, name)),
        )
        for name in names
    ]


def total(rows: Sequence[LayerTime]) -> LayerTime:
    """Return all layers as one."""
    measured, predicted = (
        {name: sum(each.get(name, 0.0) for each in many) for name in PASSES} if any(many) else {}
        for many in ([row.measured for row in rows], [row.predicted for row in rows])
    )
    return LayerTime("", "", sum(row.flop for row in rows) / len(PASSES), measured, predicted)


def said(run: RunRecord) -> list[str]:
    """Return what the run's table says in words: of its slowest rank, of communication that was hidden."""
    try:
        _, *lines = Breakdown.from_json(table(run.results, _WHERE)).lines()
    except ValueError:
        return []
    return [line for line in lines if not line.startswith(" ")]


def peak_flops_per_s(run: RunRecord) -> float | None:
    """Return the measured peak of a rank, the mean over ranks."""
    found = numbers(run.results, "predicted", "peak_flops_per_second_by_rank")
    return sum(found) / len(found) if found else None


def _passes(found: dict[str, object]) -> dict[str, float]:
    return {name: seconds for name, seconds in _seconds(found).items() if name in PASSES}


def _seconds(found: dict[str, object]) -> dict[str, float]:
    named = {name: number(found, name) for name in found}
    return {name: seconds for name, seconds in named.items() if seconds is not None and seconds >= 0}
