"""The command ``python -m bench.paper``: the paper's results, predicted from nominal figures."""

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.models import MODELS
from engine.planner.cluster import read_cluster
from engine.planner.plans import least_bytes
from engine.planner.reported import PAPER, SINGLE_NODE, Reported
from engine.planner.search import Point, search, starting_point

_EPILOG = """\
examples:
  python -m bench.paper
  python -m bench.paper --json > paper.json
"""
_WITHIN = 0.15
_WIDTH = 110
_ROWS = 5  # the paper's claims; what follows is an extra

_ASSUMPTIONS = (
    "Clusters are engine/planner/clusters/*.toml: nominal figures with their sources, one rule for all "
    "rows. No row is tuned, and nothing that predicts reads a result of the paper.",
    "The paper's schedule: convolutions data parallel; fully connected layers in groups of the size for "
    "which the equations count the fewest bytes, of those that this engine can form (one size for all "
    "layers, up to 16 ranks for 4,096 outputs, 8 for 1,000); messages first come, first served, beside the "
    "computation, in this engine's chunks; the way back of activations goes beside the gradient of the "
    "weights, as in this engine; one rank a node, one core of it left to communication.",
    "Ours: the plan, and the sizes of buckets and chunks, that engine.plan finds; what is needed first "
    "goes first.",
    "Speed-up is over one node that does the whole minibatch. On Ethernet the paper's minibatch is not "
    "known: 256.",
    "At few samples a node, kernels lose what cores idle for want of tasks and what memory bounds, no "
    "more. All nodes are equally quick, and nobody else uses the network.",
    "Of the paper the abstract was at hand: 90x, 53x, 42x, 6.5x and 14x. Samples/s, clusters, minibatches "
    "beyond 256 and 512 and the other speed-ups are as reported elsewhere.",
)


@dataclass(frozen=True)
class Row:
    """A result of the paper and two predictions of it."""

    reported: Reported
    single: Point
    paper: Point
    """By the paper's own schedule."""
    ours: Point

    @classmethod
    def of(cls, reported: Reported) -> "Row":
        """Predict a result."""
        cluster = read_cluster(reported.cluster)
        one = starting_point(reported.model, 1, reported.batch, cluster)
        many = starting_point(reported.model, reported.nodes, reported.batch, cluster)
        plan = least_bytes(MODELS[reported.model](), many.ranks, reported.batch)
        (single,) = search(one, cluster, thorough=False)
        (paper,) = search(replace(many, prioritised=False), cluster, allowed=[plan], thorough=False)
        return cls(reported, single, paper, search(many, cluster)[0])

    def speed_up(self, point: Point) -> float:
        """Return a design point's speed-up over one node."""
        return self.single.step_seconds / point.step_seconds

    @property
    def ratio(self) -> float:
        """Predicted speed-up, by the paper's schedule, over the reported one."""
        return self.speed_up(self.paper) / self.reported.speed_up

    def to_json(self) -> dict[str, Any]:
        """Return all figures."""
        reported = self.reported
        return {
            **vars(reported),
            "single_node_samples_per_second": self.single.samples_per_second,
            "single_node_reported": SINGLE_NODE[reported.model, reported.cluster],
            **{
                name: {
                    "plan": str(point.design.plan),
                    "prioritised": point.design.prioritised,
                    "bucket_floats": point.design.bucket_floats,
                    "chunk_floats": point.design.chunk_floats,
                    "speed_up": self.speed_up(point),
                    "ratio": self.speed_up(point) / reported.speed_up,
                    "samples_per_second": point.samples_per_second,
                    "step_seconds": point.step_seconds,
                    "compute_seconds": point.prediction.compute_seconds,
                    "communication_alone_seconds": point.prediction.communication_alone_seconds,
                    "bytes_sent_per_rank": point.prediction.bytes_sent_per_rank,
                }
                for name, point in (("paper_schedule", self.paper), ("our_schedule", self.ours))
            },
        }

    def gap(self) -> str:
        """Say what the difference is in milliseconds, and what would have to be otherwise."""
        wanted = self.single.step_seconds / self.reported.speed_up
        prediction, predicted = self.paper.prediction, self.paper.step_seconds
        computing, alone = prediction.compute_seconds, prediction.communication_alone_seconds or 0.0
        more = wanted - predicted
        text = (
            f"{predicted * 1e3:,.1f} ms a step predicted ({computing * 1e3:,.1f} of computation; "
            f"communication alone {alone * 1e3:,.1f}), {wanted * 1e3:,.1f} for the reported speed-up: "
            f"{abs(more) * 1e3:,.1f} ms {'more' if more > 0 else 'less'}."
        )
        if more > 0:
            samples = self.reported.batch / self.reported.nodes
            text += (
                f" Computation {more / computing:.0%} slower at {samples:g} samples a node than at "
                f"{self.reported.batch}, beyond what is predicted, would explain it; so would waits as "
                f"long as {more / alone:.0%} of the communication alone, such as for nodes that are late."
            )
        else:
            text += (
                f" The paper must have hidden {-more / alone:.0%} of this communication more, or sent "
                "less, or its nodes have computed more slowly, which hides more."
            )
        return text


def lines(rows: Sequence[Row]) -> list[str]:
    """Return the rows as a table, and below it the gaps and assumptions."""
    header = (
        f"{'workload':<14} {'cluster':<15} {'nodes':>5} {'batch':>5}  {'one node: predicted':>19} "
        f"{'reported':>11}  {'paper':>6}  {'paper schedule':>14} {'ratio':>6}  {'ours':>6} {'ratio':>6}"
    )
    table = [header]
    for place, row in enumerate(rows):
        reported = row.reported
        least, most = SINGLE_NODE[reported.model, reported.cluster]
        known = f"{least:,.4g}" if least == most else f"{least:,.4g}-{most:,.4g}"
        ours = row.speed_up(row.ours)
        if place == _ROWS:
            table.append("not among the five:")
        table.append(
            f"{reported.model:<14} {reported.cluster:<15} {reported.nodes:>5} {reported.batch:>5}  "
            f"{row.single.samples_per_second:>17,.4g}/s {known:>9}/s  {reported.speed_up:>5.1f}x  "
            f"{row.speed_up(row.paper):>13.1f}x {row.ratio:>6.2f}  "
            f"{ours:>5.1f}x {ours / reported.speed_up:>6.2f}"
        )
    near = sum(abs(row.ratio - 1) <= _WITHIN for row in rows[:_ROWS])
    table += [
        "",
        f"{near} of {min(_ROWS, len(rows))} within {_WITHIN:.0%} of the paper, by the paper's schedule",
        "",
    ]
    table.append("plans")
    for row in rows:
        paper, ours = row.paper.design, row.ours.design
        order = "needed first" if ours.prioritised else "first come"
        table.append(
            f"  {_name(row)}: paper {paper.plan}; ours {ours.plan}, {order}, "
            f"buckets of {ours.bucket_floats * 4 // 1024} KiB, chunks of {ours.chunk_floats * 4 // 1024} KiB"
        )
    table += ["", "gaps", *(f"  {_name(row)}: {row.gap()}" for row in rows)]
    table += ["", "assumptions", *(f"  {assumption}" for assumption in _ASSUMPTIONS)]
    return [filled for line in table for filled in _filled(line)]


def _filled(line: str) -> list[str]:
    """Break a line of prose."""
    if len(line) <= _WIDTH or not line.startswith("  "):
        return [line]
    return textwrap.wrap(line.strip(), _WIDTH, initial_indent="  ", subsequent_indent="    ")


def _name(row: Row) -> str:
    return f"{row.reported.model} x{row.reported.nodes}, {row.reported.cluster}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.paper",
        description="Predict every result that the paper reports, by its own schedule and by this engine's, "
        "from nominal figures of its clusters.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    options = parser.parse_args(arguments)
    rows = [Row.of(reported) for reported in PAPER]
    if options.json:
        print(json.dumps({"assumptions": _ASSUMPTIONS, "rows": [row.to_json() for row in rows]}, indent=2))
    else:
        print("\n".join(lines(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
