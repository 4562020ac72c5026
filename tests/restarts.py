"""The command ``python -m tests.restarts --runs N``: kill -9 at random moments of a run under --restarts.

Each run is started by `engine.run --restarts` on one to three ranks; a rank, all of them or mpirun is killed,
once or several times, also while the run starts or starts again. It must end with exit code 0 and the weights
of a run in which nothing failed, and say each restart in one line that `run.json` counts.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.mpi.launch import REPOSITORY, run
from tests.signals import ranks_of

STEPS = 40
BETWEEN_CHECKPOINTS = 5
RESTARTS = 4
TIMEOUT_S = 240.0
_AT_START_S = 4.0
_IN_STEP_S = 0.1


@dataclass(frozen=True)
class Kill:
    """What is killed, and when."""

    victim: str
    """A rank, all of them, or mpirun."""
    step: int
    """After this one; 0 for the start."""
    later_s: float

    @classmethod
    def draw(cls, rng: random.Random) -> "Kill":
        step = rng.choice((0, rng.randrange(STEPS), rng.randrange(STEPS)))
        victim = rng.choice(("rank", "rank", "all", "mpirun"))
        return cls(victim, step, rng.random() * (_IN_STEP_S if step else _AT_START_S))

    def strike(self, launcher: "subprocess.Popen[str]", out: Path, rng: random.Random) -> None:
        """Wait for the moment and kill, if there is something to be killed."""
        while launcher.poll() is None and last_step(out) < self.step:
            time.sleep(0.01)
        time.sleep(self.later_s)
        with suppress(psutil.Error):
            victims = ranks_of(launcher.pid)
            if self.victim == "mpirun":
                victims = psutil.Process(launcher.pid).children()
            elif self.victim == "rank" and victims:
                victims = [rng.choice(victims)]
            for each in victims:
                each.kill()


def last_step(out: Path) -> int:
    """Return the last step in a run's metrics; 0 where it has done none."""
    with suppress(OSError):
        for line in reversed((out / "metrics.jsonl").read_text().splitlines()):
            with suppress(ValueError):
                return int(json.loads(line)["step"])
    return 0


def unfailed_hash(folder: Path) -> str:
    """Return the hash of the weights of the run in which nothing fails."""
    out = folder / "whole"
    done = run(sys.executable, "-m", "engine.train", *options(out), timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    return str(json.loads((out / "run.json").read_text())["weights_sha256"])


def attacked(ranks: int, kills: tuple[Kill, ...], folder: Path, rng: random.Random) -> tuple[str, int]:
    """Run once; return the hash of its weights and how often it was started again."""
    out = folder / "run"
    command = ["-m", "engine.run", "-n", str(ranks), "--survive", "off", "--restarts", str(RESTARTS)]
    command += options(out)
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        for kill in kills:
            kill.strike(process, out, rng)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    finally:
        if process.poll() is None:
            for each in [*psutil.Process(process.pid).children(recursive=True), process]:
                each.kill()
            process.wait()
    assert process.returncode == 0, errors
    results = json.loads((out / "run.json").read_text())
    said = [line for line in errors.splitlines() if line.startswith("restart ")]
    assert results["restarts"] == len(said), errors
    assert _steps(out) == [*range(1, STEPS + 1)], "a step twice, or none"
    return str(results["weights_sha256"]), len(said)


def _steps(out: Path) -> list[int]:
    """Return the steps that are in the metrics, in their order."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if line["kind"] == "step"]


def options(out: Path) -> list[str]:
    """Return a run that is long enough to be killed in the middle."""
    return [
        "--steps", str(STEPS), "--batch", "512", "--evaluate-every", "8", "--threads", "1",
        "--checkpoint-every", "0", "--checkpoint-steps", str(BETWEEN_CHECKPOINTS), "--out", str(out),
    ]  # fmt: skip


def campaign(runs: int, seed: int) -> Counter[str]:
    """Return how many runs were started again how often; raise AssertionError at the first fault."""
    rng, counts = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        wanted = unfailed_hash(Path(folder))
    for number in range(runs):
        ranks = rng.choice((1, 2, 2, 3))
        kills = tuple(Kill.draw(rng) for _ in range(rng.choice((1, 1, 2, 3))))
        with tempfile.TemporaryDirectory() as folder:
            try:
                found, restarts = attacked(ranks, kills, Path(folder), rng)
                assert found == wanted, "other weights than those of the run in which nothing failed"
            except AssertionError as error:
                raise AssertionError(
                    f"run {number} of seed {seed}, {ranks} ranks, {kills}: {error}"
                ) from error
        counts[f"started again {restarts} times"] += 1
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.restarts", description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for outcome, count in sorted(campaign(given.runs, given.seed).items()):
        print(f"{count:5d}  {outcome}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
