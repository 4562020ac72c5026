"""Sweep over numbers of nodes: the best design point of each, as a table and as JSON."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.config.errors import UserError
from engine.planner.cluster import Cluster
from engine.planner.report import Report, rate
from engine.planner.reported import reported
from engine.planner.search import Point

_FORM = "must be nodes=1..256, for the powers of two in between, or nodes=1,2,3,8"
_MOST_NODES = 1 << 16


@dataclass(frozen=True)
class Row:
    """Result for one number of nodes: a report, or the error that there is instead."""

    nodes: int
    report: Report | None
    error: str = ""


@dataclass(frozen=True)
class Sweep:
    """Results of a sweep, in the order of the numbers of nodes."""

    model: str
    batch: int
    cluster: Cluster
    rows: tuple[Row, ...]
    paper: dict[int, float]
    """Speed-ups reported by the paper for this network, cluster and minibatch, by nodes."""

    @classmethod
    def of(
        cls,
        cluster: Cluster,
        nodes: Sequence[int],
        search: Callable[[int], list[Point]],
        *,
        model: str,
        batch: int,
        single: Point,
    ) -> "Sweep":
        """Search for each number of nodes.

        Raises
        ------
        UserError
            The minibatch suits none of them.
        """
        rows = []
        for count in nodes:
            try:
                rows.append(Row(count, Report.of(cluster, search(count), single)))
            except UserError as error:
                rows.append(Row(count, None, str(error)))
        if all(row.report is None for row in rows):
            raise UserError(rows[0].error)
        return cls(model, batch, cluster, tuple(rows), reported(model, cluster.name, batch))

    def to_json(self) -> dict[str, Any]:
        """Return all rows, as `--json` prints them."""
        return {
            "model": self.model,
            "batch": self.batch,
            "cluster": self.cluster.name,
            "paper_speed_ups": self.paper,
            "rows": [
                {"nodes": row.nodes, **(row.report.to_json() if row.report else {"error": row.error})}
                for row in self.rows
            ],
        }

    def lines(self) -> list[str]:
        """Return a table as lines of text, and below it the warnings of its rows."""
        plans = [str(row.report.best.design.plan) for row in self.rows if row.report]
        width = max(len("plan"), *map(len, plans))
        lines = [
            f"{self.model}, minibatch {self.batch}, on {self.cluster.name}: {self.cluster.description}",
            "",
            f"nodes  {'plan':<{width}}  {'step':>12}  {'samples/s':>9}  {'speed-up':>8}  {'eff.':>5}  "
            f"bound by{'   paper' * bool(self.paper)}",
        ]
        notes = dict[str, list[int]]()
        for row in self.rows:
            if row.report is None:
                lines.append(f"{row.nodes:>5}  {row.error}")
                continue
            report, best = row.report, row.report.best
            paper = f"  {self.paper[row.nodes]:>6.1f}" if row.nodes in self.paper else ""
            lines.append(
                f"{row.nodes:>5}  {best.design.plan!s:<{width}}  {best.step_seconds * 1e3:>9,.1f} ms  "
                f"{rate(best):>9}  {report.speed_up(best):>8.1f}  "
                f"{report.efficiency(best):>5.0%}  {report.bound:<9}{paper}".rstrip()
            )
            for warning in report.warnings():
                notes.setdefault(warning, []).append(row.nodes)
        return lines + [f"warning: {_nodes(where)}: {warning}" for warning, where in notes.items()]


def read_nodes(text: str) -> list[int]:
    """Parse the numbers of nodes of a sweep, in ascending order.

    Raises
    ------
    UserError
        The text has another form, or numbers are out of order or range.
    """
    name, _, values = text.partition("=")
    first, dots, last = values.partition("..")
    numbers = [first, last] if dots else values.split(",")
    if name.strip() != "nodes" or not all(number.strip().isdecimal() for number in numbers):
        raise UserError(f'sweep: got "{text}"; {_FORM}')
    counts = [int(number) for number in numbers]
    if not all(1 <= count <= _MOST_NODES for count in counts):
        raise UserError(f'sweep: got "{text}"; numbers of nodes must be from 1 to {_MOST_NODES:,}')
    if not dots:
        return sorted(set(counts))
    if counts[0] > counts[1]:
        raise UserError(f'sweep: got "{text}"; the first number must not be greater than the last')
    powers = [1 << bit for bit in range(_MOST_NODES.bit_length()) if counts[0] <= 1 << bit <= counts[1]]
    return sorted({*counts, *powers})


def _nodes(where: Sequence[int]) -> str:
    return f"on {', '.join(map(str, where))}"
