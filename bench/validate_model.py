"""The command ``python -m bench.validate_model``: what the simulator predicts, beside what runs take."""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench import calibrate, machine
from bench.hosts import leave_on_signals
from bench.namespaces import ClusterError
from bench.places import Place, RunError
from bench.scaling_cases import Case, Size, sample
from bench.shapes import NETWORKS
from engine.config.errors import UserError
from engine.graph.parallel.plan import Plan
from engine.planner.cluster import Cluster, read_cluster
from engine.planner.design import Design
from engine.planner.simulation.simulator import simulate

LEAVES = 16
BATCHES = {**NETWORKS, "cifar10": 256}
"""Global minibatch by model: the three of the paper and a small one."""

_SPLIT = {
    "vgg_a": ("fc6", "fc7", "fc8"),
    "overfeat_fast": ("fc6", "fc7", "fc8"),
    "cd_dnn": tuple(f"fc{layer}" for layer in range(1, 9)),
}
_PLACES = (
    "2x1", "2x1@none", "2x1@1gbit", "2x1@1gbit+2ms", "2x1@500mbit", "2x1@100mbit",
    "4x1@none", "4x1@1gbit", "4x1@500mbit", "4x1@100mbit",
)  # fmt: skip

_EPILOG = """\
examples:
  python -m bench.validate_model --json > validate.json        everything: an hour or more
  python -m bench.validate_model vgg_a cifar10 --place 2x1 --place 2x1@1gbit
  python -m bench.validate_model cd_dnn --longest 5

At each place (see bench.scaling) the machines are measured first, by engine.planner.measurement: kernels in
the order of a step with nobody to talk to, pings, memory. From that alone each case is predicted; then it is
trained, on synthetic data, and the medians of the steady steps are compared. Cases: overlap on, off, and a
plan that splits the fully connected layers over pairs. "off by" is predicted over measured, less one.

At the end, by model and place: the plan that the predictions choose, and how much longer its measured step
is than that of the best plan measured.
"""


@dataclass(frozen=True)
class Row:
    """One case, predicted and measured."""

    model: str
    place: str
    plan: str
    overlap: bool
    predicted_seconds: float
    measured_seconds: float | None
    """None where the prediction was longer than what was allowed."""

    @property
    def ratio(self) -> float | None:
        """Predicted over measured."""
        return None if self.measured_seconds is None else self.predicted_seconds / self.measured_seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.validate_model",
        description="Predict steps from kernels and pings, train them, and compare.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"{', '.join(BATCHES)}; default all")
    parser.add_argument("--place", action="append", metavar="PLACE", help=f"default {' '.join(_PLACES)}")
    parser.add_argument("--steps", type=int, default=6, metavar="N", help="of each run; default 6")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="runs of each; default 1")
    parser.add_argument(
        "--longest", type=float, default=20.0, metavar="SECONDS",
        help="a step that is predicted to take longer is not trained; default 20",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parser().parse_args(arguments)
    left_out: dict[str, str] = {}
    rows: list[Row] = []
    clusters: dict[str, Any] = {}
    try:
        models = _models(options)
        for place in [Place.parse(text) for text in options.place or _PLACES]:
            try:
                cluster, found = _compare(place, models, options)
            except ClusterError as error:
                left_out[place.name] = str(error)
                _say(options, f"\n{place.name}: left out: {error}")
                continue
            clusters[place.name] = {name: asdict(getattr(cluster, name)) for name in _TOLD}
            rows += found
    except (ValueError, UserError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, RunError) else 2
    summary, choices = summarise(rows), chosen(rows)
    for line in (*_summary_lines(summary), *_choice_lines(choices)):
        _say(options, line)
    if options.json:
        described = machine.describe(machine.cores())
        machine.print_json(
            "validate_model", described, summary=summary, choices=choices, left_out=left_out,
            clusters=clusters, rows=[{**asdict(row), "ratio": row.ratio} for row in rows],
        )  # fmt: skip
    return 0


_TOLD = ("machine", "network", "shared_memory", "software")


def _models(options: argparse.Namespace) -> list[str]:
    models = options.models or list(BATCHES)
    for model in models:
        if model not in BATCHES:
            raise ValueError(f"model: got {model!r}; must be one of {', '.join(BATCHES)}")
    if options.steps < 2 or options.rounds < 1 or options.longest <= 0:
        raise ValueError("steps must be at least 2, rounds at least 1, longest more than 0")
    return models


def _say(options: argparse.Namespace, text: str) -> None:
    print(text, file=sys.stderr if options.json else sys.stdout, flush=True)


def designs(model: str, place: Place) -> list[Design]:
    """Return what is compared of a model at a place."""
    data = Design(model, place.ranks, BATCHES[model], LEAVES, Plan(), place.threads)
    found = [data, replace(data, overlap=False)]
    if model in _SPLIT:
        found.append(replace(data, plan=Plan(dict.fromkeys(_SPLIT[model], 2))))
    return found


def _compare(place: Place, models: Sequence[str], options: argparse.Namespace) -> tuple[Cluster, list[Row]]:
    """Measure a place, predict its cases and train them."""
    points = {model: designs(model, place) for model in models}
    with tempfile.TemporaryDirectory() as folder:
        cluster = _calibrate(place, [point for each in points.values() for point in each], Path(folder))
        channel = cluster.network.channel if place.link else cluster.shared_memory
        _say(
            options,
            f"\n{place.name}: {channel.bytes_per_s / 1e6:,.0f} MB/s, {1e6 * channel.latency_s:.0f} us; "
            f"of processor time {1e6 * channel.message_s:.0f} us a message and "
            f"{1e9 * channel.processor_s_per_byte:.2f} ns a byte",
        )
        rows = []
        for model in models:
            for point in points[model]:
                rows.append(_row(point, place, cluster, options, Path(folder)))
                _say(options, line(rows[-1]))
    return cluster, rows


def _calibrate(place: Place, points: Sequence[Design], folder: Path) -> Cluster:
    out = folder / "cluster.toml"
    texts = dict.fromkeys(calibrate.text_of(point) for point in points)  # overlap changes no kernel
    place.run([sys.executable, "-m", "bench.calibrate", str(out), *texts])
    return read_cluster(str(out))


def _row(point: Design, place: Place, cluster: Cluster, options: argparse.Namespace, folder: Path) -> Row:
    predicted, measured = simulate(point, cluster).step_seconds, None
    if predicted <= options.longest:
        case = Case(point.model, "ours", place, point.overlap, str(point.plan))
        for _ in range(options.rounds):
            sample(case, Size(point.batch, point.leaves, options.steps), folder)
        measured = case.step_seconds
    return Row(point.model, place.name, str(point.plan), point.overlap, predicted, measured)


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Return how far predictions are off: the median of |predicted / measured - 1|, and the worst case."""
    known = [(abs(ratio - 1), row) for row in rows if (ratio := row.ratio) is not None]
    if not known:
        return {"cases": 0, "median_off_by": None, "worst_off_by": None, "worst": None}
    worst, where = max(known, key=lambda pair: pair[0])
    return {
        "cases": len(known),
        "median_off_by": statistics.median(off for off, _ in known),
        "worst_off_by": worst,
        "worst": _name(where),
    }


def chosen(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return by model and place the plan with the least predicted step, among those that were measured."""
    found = []
    for model, place in dict.fromkeys((row.model, row.place) for row in rows):
        here = [
            (row.predicted_seconds, row.measured_seconds, row.plan)
            for row in rows
            if (row.model, row.place) == (model, place) and row.overlap and row.measured_seconds is not None
        ]
        if len(here) > 1:
            _, seconds, plan = min(here)
            _, best, _ = min(here, key=lambda each: each[1])
            found.append({"model": model, "place": place, "plan": plan, "over_best": seconds / best})
    return found


def _name(row: Row) -> str:
    return f"{row.model} {row.place} plan {row.plan}, overlap {'on' if row.overlap else 'off'}"


def line(row: Row) -> str:
    """Return a row as text."""
    if row.ratio is None:
        return f"  {_name(row):72} {row.predicted_seconds:9.4f} s predicted: too long to be measured"
    return (
        f"  {_name(row):72} {row.predicted_seconds:9.4f} s predicted {row.measured_seconds:9.4f} s measured "
        f"{row.ratio - 1:+7.1%}"
    )


def _summary_lines(summary: dict[str, Any]) -> list[str]:
    if not summary["cases"]:
        return ["nothing was measured"]
    return [
        f"\n{summary['cases']} cases: off by {summary['median_off_by']:.1%} (median), "
        f"{summary['worst_off_by']:.1%} at worst: {summary['worst']}"
    ]


def _choice_lines(choices: Sequence[dict[str, Any]]) -> list[str]:
    return [
        f"  {each['model']} at {each['place']}: {each['plan']}, {each['over_best']:.2f} x the best measured"
        for each in choices
    ]


if __name__ == "__main__":
    leave_on_signals()
    sys.exit(main())
