"""What `bench.scaling` runs: one side at one place, as the command that a user would type."""

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bench.places import Place
from bench.worker import TUNED
from comm.tree import previous_power_of_two
from engine.explain import read_results
from engine.models import MODELS
from engine.profile.breakdown import Breakdown
from engine.profile.recorder import warm_steps

SIDES = ("ours", "mpi", "ddp", "alone")


@dataclass
class Case:
    """One side at one place, and what was measured of it."""

    model: str
    side: str
    place: Place
    overlap: bool = True
    plan: str = "data"
    way: str = ""
    seconds: list[float] = field(default_factory=list)
    breakdowns: list[Breakdown] = field(default_factory=list)
    weights: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """What tells it from the other cases of the model."""
        if self.side not in ("ours", "mpi"):
            return f"{self.side} {self.place.name}"
        way = f", {self.way}" if self.way else ""
        plan = f", plan {self.plan}" if self.plan != "data" else ""
        overlap = "" if self.place.ranks == 1 else f", overlap {'on' if self.overlap else 'off'}"
        return f"{self.side} {self.place.name}{overlap}{way}{plan}"

    @property
    def step_seconds(self) -> float:
        """Median of the steady steps of all rounds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Size:
    """How much is run."""

    batch: int
    leaves: int
    steps: int


def steady(seconds: Sequence[float]) -> list[float]:
    """Return the steps that count: not the first, which compile and touch memory, as in the engine."""
    return [*seconds[warm_steps(len(seconds)) :]]


def train_command(case: Case, size: Size, out: Path) -> list[str]:
    """Return the command of a run of ours, or of ours with MPI's own collectives."""
    program = ["bench.mpi_reductions", "--way", case.way] if case.side == "mpi" else ["engine.train"]
    return [
        sys.executable, "-m", *program, case.model, "--data", "synthetic", "--augment", "none",
        "--batch", str(size.batch), "--leaves", str(size.leaves), "--steps", str(size.steps), "--lr", "1e-3",
        "--threads", str(case.place.threads), "--overlap", "on" if case.overlap else "off",
        "--plan", case.plan, "--evaluate-every", "0", "--checkpoint-every", "0", "--out", str(out),
    ]  # fmt: skip


def ddp_command(case: Case, size: Size) -> list[str]:
    """Return the command of a run of PyTorch."""
    images = len(MODELS[case.model]().input_shape) == 3
    return [
        sys.executable, "-m", "bench.ddp", case.model, "--batch", str(size.batch), "--steps", str(size.steps),
        "--threads", str(case.place.threads), "--layout", "channels_last" if images else "contiguous",
        "--master", case.place.master,
    ]  # fmt: skip


def sample(case: Case, size: Size, folder: Path) -> None:
    """Run a case once, and note what it took."""
    if case.side == "ddp":
        environment = TUNED | {"GLOO_SOCKET_IFNAME": case.place.interface}
        printed = case.place.run(ddp_command(case, size), environment)
        case.seconds += steady(json.loads(printed.splitlines()[-1])["seconds"])
    elif case.side == "alone":
        _sample_alone(case, size, folder)
    else:
        out = Path(tempfile.mkdtemp(dir=folder)) / "run"
        case.place.run(train_command(case, size, out))
        case.seconds += steady(step_seconds(out))
        if case.side == "ours":
            case.weights.add(json.loads((out / "run.json").read_text())["weights_sha256"])
        case.breakdowns.append(read_results(out / "run.json"))


def _sample_alone(case: Case, size: Size, folder: Path) -> None:
    """Run the parts of the minibatch as processes of their own, at the same time."""
    ranks = case.place.ranks
    leaves = previous_power_of_two(max(1, size.leaves // ranks))
    part = Size(size.batch // ranks, leaves, size.steps)
    outs = [Path(tempfile.mkdtemp(dir=folder)) / "run" for _ in range(ranks)]
    one = Place(1, case.place.threads, None, case.place.name)
    with ThreadPoolExecutor(ranks) as pool:
        list(pool.map(lambda out: one.run(train_command(case, part, out)), outs))
    case.seconds += [max(step) for step in zip(*(steady(step_seconds(out)) for out in outs), strict=True)]


def step_seconds(run: Path) -> list[float]:
    """Read the seconds of each step from a run's folder."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["seconds"] for line in lines if line["kind"] == "step"]
