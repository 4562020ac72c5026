"""What is the same in several runs, and what differs: rows of text, a column for each run."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.config.wording import printable
from engine.report import figures
from engine.report.fields import number, numbers, table, text, texts
from engine.report.run_record import RunRecord


@dataclass(frozen=True)
class Row:
    """A fact of each run."""

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the runs do not agree."""
        return len(set(self.values)) > 1


Tell = Callable[[RunRecord], str]


def results(records: Sequence[RunRecord]) -> list[Row]:
    """Return how the runs went."""
    told: dict[str, Tell] = {
        "state": lambda run: run.state,
        "network": lambda run: _said(run, "model"),
        "data": lambda run: _said(run, "data"),
        "steps": _steps,
        "epochs": lambda run: figures.plain(number(run.results, "epochs")),
        "test accuracy": lambda run: figures.percent(last(run, "test_accuracy")),
        "test loss": lambda run: figures.plain(last(run, "test_loss")),
        "best test accuracy": _best,
        "loss of the last step": lambda run: figures.plain(last_loss(run)),
        "samples/s, median": lambda run: figures.whole(number(run.results, "samples_per_second")),
        "a step, median": lambda run: figures.duration(number(run.results, "step_seconds_median")),
        "time of the session": lambda run: figures.duration(number(run.results, "seconds_total")),
        "ranks x threads": _ranks,
        "parameters": lambda run: figures.whole(number(run.results, "parameters")),
        "training samples": lambda run: figures.whole(number(run.results, "training_samples")),
        "test samples": lambda run: figures.whole(number(run.results, "test_samples")),
        "ended": lambda run: (text(run.results, "ended") or figures.NOTHING)[:16].replace("T", " "),
    }
    return _rows(records, told)


def hashes(records: Sequence[RunRecord]) -> list[Row]:
    """Return the hashes, by which runs are known to be the same to the bit."""
    told: dict[str, Tell] = {
        "weights (sha256)": lambda run: text(run.results, "weights_sha256") or figures.NOTHING,
        "state of layers (sha256)": lambda run: text(run.results, "state_sha256") or figures.NOTHING,
    }
    return _rows(records, told)


def environments(records: Sequence[RunRecord]) -> list[Row]:
    """Return what the runs ran on."""
    labels = {
        "machines": "machines", "hosts": "hosts", "cores": "cores for ranks of a machine", "simd": "SIMD",
        "system": "system", "lockstep": "Lockstep",
        "python": "Python", "numpy": "numpy", "numba": "numba", "llvmlite": "llvmlite", "mpi4py": "mpi4py",
        "mpi": "MPI", "kernel_sources": "kernel sources",
    }  # fmt: skip
    told: dict[str, Tell] = {
        "processor": lambda run: _joined(texts(run.results, "environment", "processors"))
    }
    for name, label in labels.items():
        told[label] = lambda run, name=name: _value(table(run.results, "environment").get(name))  # type: ignore[misc]
    told["peak of a rank, measured"] = lambda run: _spread(
        numbers(run.results, "predicted", "peak_flops_per_second_by_rank"), "FLOP"
    )
    told["memory of a rank, measured"] = lambda run: _spread(
        numbers(run.results, "predicted", "memory_bytes_per_second_by_rank"), "B"
    )
    return _rows(records, told)


def recipes(records: Sequence[RunRecord]) -> list[Row]:
    """Return all fields of the recipes, as a recipe has them; those that differ come first."""
    names = dict.fromkeys(name for run in records for name in run.recipe)
    rows = [Row(name, tuple(_field(run.recipe, name) for run in records)) for name in names]
    return sorted(rows, key=lambda row: not row.differs)


def last(run: RunRecord, field: str) -> float | None:
    """Return a figure of the last evaluation; None for a run without one."""
    found = number(run.results, field)
    if found is not None or not len(run.epochs):
        return found
    return _finite(float(run.epochs.values[field][-1]))


def last_loss(run: RunRecord) -> float | None:
    """Return the loss of the last step."""
    found = number(run.results, "final_loss")
    if found is not None or not len(run.steps):
        return found
    return _finite(float(run.steps.values["loss"][-1]))


def _rows(records: Sequence[RunRecord], told: Mapping[str, Tell]) -> list[Row]:
    """Return the rows that say anything."""
    rows = [Row(name, tuple(printable(tell(run)) for run in records)) for name, tell in told.items()]
    return [row for row in rows if set(row.values) != {figures.NOTHING}]


def _said(run: RunRecord, name: str) -> str:
    return text(run.results, name) or _value(run.recipe.get(name, run.recipe.get(f"{name}.name")))


def _steps(run: RunRecord) -> str:
    done = number(run.results, "steps")
    return figures.whole(float(run.steps.step[-1]) if done is None and len(run.steps) else done)


def _best(run: RunRecord) -> str:
    tested = [
        (float(accuracy), float(epoch))
        for accuracy, epoch in zip(run.epochs.values["test_accuracy"], run.epochs.epoch, strict=True)
        if accuracy == accuracy  # noqa: PLR0124 -- no NaN
    ]
    if not tested:
        return figures.NOTHING
    accuracy, epoch = max(tested, key=lambda each: each[0])
    return f"{figures.percent(accuracy)} (epoch {epoch:g})"


def _ranks(run: RunRecord) -> str:
    ranks, threads = number(run.results, "ranks"), number(run.results, "threads")
    return figures.NOTHING if ranks is None or threads is None else f"{ranks:g} x {threads:g}"


def _joined(names: Sequence[str]) -> str:
    return "; ".join(names) or figures.NOTHING


def _spread(values: Sequence[float], of: str) -> str:
    """Return the lowest and the highest rate."""
    if not values:
        return figures.NOTHING
    low, high = (figures.rate(each, of) for each in (min(values), max(values)))
    if low == high:
        return low
    number, unit = low.split(" ", 1)
    return f"{number} to {high}" if high.endswith(f" {unit}") else f"{low} to {high}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and value:
        return value
    return figures.plain(number({"": value}, "")) if isinstance(value, int | float) else figures.NOTHING


def _field(recipe: Mapping[str, Any], name: str) -> str:
    if name not in recipe:
        return figures.NOTHING
    return printable(json.dumps(recipe[name], ensure_ascii=False, default=str))


def _finite(value: float) -> float | None:
    return number({"": value}, "")
