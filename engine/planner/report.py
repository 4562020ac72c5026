"""Report the results of a search, as text and as JSON."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from comm.collectives import CHUNK_FLOATS
from comm.tree import is_power_of_two, previous_power_of_two
from engine.config.recipe import FLOATS_PER_KIB, read_recipe, shipped
from engine.config.toml_fields import argument_text
from engine.config.wording import counted
from engine.planner.cluster import Cluster
from engine.planner.design import Design
from engine.planner.memory import DesignMemory, memory_of
from engine.planner.plans import most_samples
from engine.planner.search import BANDWIDTH, COMPUTE, LATENCY, Point, bound, gains, starvation
from engine.training.rank_parameters import BUCKET_FLOATS
from layers.precision import FP32, stated

_STARVED = 1.25  # processor time of a sample over one node's, above which a reader is warned
_FEW_SAMPLES = 2  # a rank; with fewer, kernels have little to share among threads
_SHOWN = 8  # design points in the table


@dataclass(frozen=True)
class Report:
    """Compare the best design points of a network on several nodes with one node."""

    cluster: Cluster
    nodes: int
    points: tuple[Point, ...]
    """Design points, the best first."""
    single: Point
    """The same minibatch on one node."""
    gains: dict[str, float]
    """See `engine.planner.search.gains`."""

    @classmethod
    def of(cls, cluster: Cluster, points: Sequence[Point], single: Point) -> "Report":
        """Make a report; computes the gains, which takes three more simulations."""
        nodes = points[0].design.ranks // cluster.machine.ranks
        return cls(cluster, nodes, tuple(points), single, gains(points[0], cluster))

    @property
    def best(self) -> Point:
        """The design point with the shortest step."""
        return self.points[0]

    @property
    def bound(self) -> str:
        """The bottleneck of the best design point: see `engine.planner.search.bound`."""
        return bound(self.best, self.gains)

    @cached_property
    def memory(self) -> DesignMemory:
        """The memory of the best design point."""
        return memory_of(self.best.design, self.cluster)

    def speed_up(self, point: Point) -> float:
        """Return the speed-up of a design point over one node."""
        return self.single.step_seconds / point.step_seconds

    def efficiency(self, point: Point) -> float:
        """Return the speed-up as a share of the nodes."""
        return self.speed_up(point) / self.nodes

    def warnings(self) -> list[str]:
        """Return warnings to read before booking these nodes."""
        found, design, machines = (
            list[str](),
            self.best.design,
            self.cluster.machines * self.cluster.machine.hosts,
        )
        if self.nodes > machines:
            found.append(f"{self.cluster.name} has {machines} nodes, not {self.nodes}")
        if (lacking := self.memory.warning()) is not None:
            found.append(lacking)
        slower = starvation(self.best, self.single)
        samples = most_samples(design.ranks, design.batch)
        if slower > _STARVED:
            found.append(
                f"{counted(samples, 'sample')} a rank: kernels starve, a sample takes "
                f"{slower:.2f} x the processor time that it takes on one node"
            )
        elif samples < _FEW_SAMPLES and design.ranks > 1:
            found.append(
                f"{counted(samples, 'sample')} a rank: little for {counted(design.threads, 'thread')} to "
                "share"
            )
        if not is_power_of_two(design.ranks):
            below = previous_power_of_two(design.ranks)
            found.append(
                f"{design.ranks} ranks are no power of two: some have twice the samples of others, so that "
                f"computation takes as long as on {below}"
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """Return all fields and what follows from them, as `--json` prints them."""
        machine = self.cluster.machine
        return {
            "model": self.best.design.model,
            "cluster": self.cluster.name,
            "nodes": self.nodes,
            "ranks_per_node": machine.ranks,
            "batch": self.best.design.batch,
            "leaves": self.best.design.leaves,
            "accumulate": self.best.design.accumulate,
            **stated(self.best.design.precision),
            "bytes_held_per_rank": self.memory.rank_bytes,
            "threads": self.best.design.threads,
            "one_node_samples_per_second": self.single.samples_per_second,
            "bound": self.bound,
            "saved_if_twice_as_good": self.gains,
            "warnings": self.warnings(),
            "command": command(self.best.design, self.nodes),
            "points": [self._row(point) for point in self.points],
        }

    def _row(self, point: Point) -> dict[str, Any]:
        design, prediction = point.design, point.prediction
        return {
            "plan": str(design.plan),
            "prioritised": design.prioritised,
            "bucket_floats": design.bucket_floats,
            "chunk_floats": design.chunk_floats,
            "step_seconds": point.step_seconds,
            "samples_per_second": point.samples_per_second,
            "speed_up": self.speed_up(point),
            "efficiency": self.efficiency(point),
            "compute_seconds": prediction.compute_seconds,
            "communication_alone_seconds": prediction.communication_alone_seconds,
            "bytes_sent_per_rank": prediction.bytes_sent_per_rank,
            "where_the_time_went": prediction.breakdown.to_json(),
        }

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        design, prediction, machine = self.best.design, self.best.prediction, self.cluster.machine
        ranks = f" of {machine.ranks} ranks" * (machine.ranks > 1)
        lines = [
            f"{design.model}, minibatch {design.batch}, on {counted(self.nodes, 'node')}{ranks} of "
            f"{self.cluster.name}: {self.cluster.description}",
            f"{counted(most_samples(design.ranks, design.batch), 'sample')} a rank, "
            f"{counted(design.threads, 'thread')} a rank, {design.leaves} leaves"
            f"{f', products of {design.precision}' * (design.precision != FP32)}",
            "",
            f"best      {settings(design)}",
            f"step      {_ms(self.best.step_seconds)}, {rate(self.best)} samples/s",
            f"speed-up  {self.speed_up(self.best):.1f} over one node "
            f"({rate(self.single)} samples/s), efficiency {self.efficiency(self.best):.0%}",
            f"bound by  {self.bound}: {_explained(self.gains)}",
            f"memory    {self.memory.line()}",
        ]
        alone = prediction.communication_alone_seconds
        if alone is not None:
            exposed = self.best.step_seconds - prediction.compute_seconds
            lines.append(
                f"sends     {prediction.bytes_sent_per_rank / 1e6:,.1f} MB a rank and step: {_ms(alone)} "
                f"alone; the step has {_ms(prediction.compute_seconds)} of computation and "
                f"{_ms(max(0.0, exposed))} more"
            )
        lines += ["", *table(self)]
        lines += [f"warning: {warning}" for warning in self.warnings()]
        return [*lines, "", "run it with", f"  {command(design, self.nodes)}", *_hints(design, self.nodes)]


def table(report: Report) -> list[str]:
    """Return a table of the best design points, one line each."""
    shown = report.points[:_SHOWN]
    width = max(len("plan"), *(len(str(point.design.plan)) for point in shown))
    rows = [
        f"   {'plan':<{width}}  {'threads':>7}  {'first':<6}  {'bucket':>8}  {'chunk':>8}  {'step':>12}  "
        f"{'samples/s':>9}  {'speed-up':>8}  {'eff.':>5}"
    ]
    for place, point in enumerate(shown, start=1):
        design = point.design
        rows.append(
            f"{place:>2} {design.plan!s:<{width}}  {design.threads:>7}  "
            f"{'needed' if design.prioritised else 'come':<6}  {_kib(design.bucket_floats):>8}  "
            f"{_kib(design.chunk_floats):>8}  {_ms(point.step_seconds):>12}  {rate(point):>9}  "
            f"{report.speed_up(point):>8.1f}  {report.efficiency(point):>5.0%}"
        )
    return rows


def settings(design: Design) -> str:
    """Describe the settings of a design point that a search chooses."""
    order = "what is needed first goes first" if design.prioritised else "first come, first served"
    buckets = f"buckets up to {_kib(design.bucket_floats)}" if design.bucket_floats else "no buckets"
    return f"plan {design.plan}; {order}; {buckets}, chunks of {_kib(design.chunk_floats)}"


def rate(point: Point) -> str:
    """Format samples/s, with one decimal below 1,000."""
    value = point.samples_per_second
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def command(design: Design, nodes: int) -> str:
    """Return the command that trains a design point; training always prioritises what is needed first."""
    model, data = design.model, read_recipe(design.model).data if design.model in shipped() else "synthetic"
    launcher = f"mpirun -n {design.ranks}"
    if nodes > 1:
        launcher += f" --hostfile hosts --map-by ppr:{design.ranks // nodes}:node"
    if model not in shipped():
        given = (f"{name}={argument_text(value)}" for name, value in design.model_arguments)
        model = " --model-argument ".join([f"--model {shlex.quote(model)}", *map(shlex.quote, given)])
    parts = [
        f"{launcher} --bind-to none python -m engine.train {model} --data {data} --batch {design.batch}",
        f"--leaves {design.leaves} --threads {design.threads} --plan {design.plan}",
    ]
    options = (
        ("--freeze", ",".join(design.freeze), ""),
        ("--norm-groups", design.norm_groups, 0),
        ("--precision", design.precision, FP32),
        ("--accumulate", design.accumulate, 1),
        ("--bucket-kib", design.bucket_floats // FLOATS_PER_KIB, BUCKET_FLOATS // FLOATS_PER_KIB),
        ("--chunk-kib", design.chunk_floats // FLOATS_PER_KIB, CHUNK_FLOATS // FLOATS_PER_KIB),
    )
    parts += [f"{name} {shlex.quote(str(value))}" for name, value, usual in options if value != usual]
    return " ".join(parts)


def _hints(design: Design, nodes: int) -> list[str]:
    """Return what a user has to put into the command."""
    each = design.ranks // nodes
    slurm = f"srun -N {nodes} --ntasks-per-node={each} --cpus-per-task={design.threads}"
    found = ["  with your data for --data: images:DIR, the same folder on every node, for instance"]
    if nodes > 1:
        found.append(f"  hosts: a file with a line for each node, `NAME slots={each}`")
        found.append(f"  or, with Slurm: {slurm} python ...")
    return found


_IMPROVED = {COMPUTE: "twice the compute", BANDWIDTH: "twice the bandwidth", LATENCY: "half the latency"}


def _explained(gained: dict[str, float]) -> str:
    parts = [
        f"{max(saved, 0.0):.1%} shorter with {_IMPROVED[name]}"
        for name, saved in sorted(gained.items(), key=lambda item: -item[1])
    ]
    return f"the step would be {', '.join(parts)}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms"


def _kib(floats: int) -> str:
    return f"{floats // FLOATS_PER_KIB} KiB" if floats else "none"
