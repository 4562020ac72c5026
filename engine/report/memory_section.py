"""The section of memory by rank."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.report import figures
from engine.report.elements import figure, grid, heading, mark, row_name, run_name, section
from engine.report.fields import numbers, whole
from engine.report.markup import Markup, join, tag
from engine.report.run_record import RunRecord

MOST_RANKS = 16
"""Of a run with more, the ranks with the most, a median and the least memory are shown."""


@dataclass(frozen=True)
class _Held:
    """The memory of one rank, in bytes."""

    rank: str
    most: float
    parameters: float | None


def memory_section(records: Sequence[RunRecord]) -> Markup | None:
    """Return the memory of each rank: all that its process used, and the parameters' part of it."""
    shown = [(place, held) for place, run in enumerate(records) for held in _held(run)]
    if not shown:
        return None
    most = max(held.most for _, held in shown) or 1.0
    body = [_row(records, place, held, most) for place, held in shown]
    head = tag(
        "tr", heading(numeric=False), heading(numeric=False, wide=True),
        heading(mark("held"), "parameters"), heading(mark("resident"), "most in all"),
    )  # fmt: skip
    about = "Parameters are weights, gradients and moments; most in all is the largest resident memory."
    return section("memory", "Memory", about, grid("Memory by rank", [head], body, class_="layers memory"))


def _held(run: RunRecord) -> list[_Held]:
    peaks = numbers(run.results, "peak_resident_bytes_by_rank")
    parameters = numbers(run.results, "parameter_bytes_by_rank")
    accumulate = whole(run.results, "accumulate") or 1
    cut = f", {accumulate} microbatches" if accumulate > 1 else ""
    held = [
        _Held(f"rank {rank}{cut}", max(0.0, peak), parameters[rank] if rank < len(parameters) else None)
        for rank, peak in enumerate(peaks)
    ]
    if len(held) <= MOST_RANKS:
        return held
    ordered = sorted(held, key=lambda each: -each.most)
    places = {"the most": 0, "a median": len(held) // 2, "the least": len(held) - 1}
    return [
        _Held(
            f"{ordered[place].rank}, {what} of {len(held):,}", ordered[place].most, ordered[place].parameters
        )
        for what, place in places.items()
    ]


def _row(records: Sequence[RunRecord], place: int, held: _Held, most: float) -> Markup:
    inside = min(max(0.0, held.parameters or 0.0), held.most)
    bar = [
        tag("i", class_=f"part {name}", style=f"width:{100 * size / most:.3f}%")
        for name, size in (("held", inside), ("resident", held.most - inside))
    ]
    name = join([run_name(records, place), ", "]) if len(records) > 1 else None
    return tag(
        "tr", row_name(name, held.rank), tag("td", tag("div", *bar, class_="bar"), class_="wide"),
        figure(figures.size(held.parameters)), figure(figures.size(held.most)),
    )  # fmt: skip
