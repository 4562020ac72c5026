"""The command ``python -m tests.signals --runs N``: random signals at random moments of a run.

Each run is started alone or by `engine.run` on two ranks; a signal, or several in a row, goes to the
launcher, to a rank or to both. It must end with 130 and a checkpoint of its last step, or with 130 and one
line before its first step, or with 0 when it was done already; no traceback, and a folder that can be used
again.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from engine.config.errors import UserError
from engine.host.stop_signals import WISHES
from engine.run.finding import find_checkpoint
from tests.mpi.launch import REPOSITORY, run

STEPS = 400
LATEST_S = 4.0  # a run of so many steps is mostly over
TOO_EARLY_S = 0.6  # a process that has just begun does not listen yet, and dies as any other
LISTENS_S = 0.4  # Open MPI may wait for ever for a rank that a signal has killed while Python was starting
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Attack:
    """What is done to a run."""

    ranks: int
    victim: str
    numbers: tuple[signal.Signals, ...]
    after_s: float
    pauses_s: tuple[float, ...]

    @classmethod
    def draw(cls, rng: random.Random) -> "Attack":
        count = rng.choice((1, 1, 2, 3))
        kind = rng.choice(WISHES)
        numbers = tuple(rng.choice((kind, rng.choice(WISHES))) for _ in range(count))
        ranks = rng.choice((1, 2))
        victim = rng.choice(("launcher", "rank", "both")) if ranks > 1 else "launcher"
        pauses = tuple(rng.choice((0.0, 0.002, rng.random() * 0.5)) for _ in numbers)
        return cls(ranks, victim, numbers, rng.random() * LATEST_S, pauses)


def attacked(attack: Attack, folder: Path, rng: random.Random) -> str:
    """Run once and return what happened; raise AssertionError where it must not."""
    out = folder / "run"
    command = ["-m", "engine.run", "-n", str(attack.ranks)]
    arguments = ["--steps", str(STEPS), "--threads", "1", "--checkpoint-every", "0", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, *command, *arguments],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    started = time.time()
    time.sleep(attack.after_s)
    youngest = _attack(attack, process, rng, started)
    try:
        said, errors = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            each.kill()
        said, errors = process.communicate()
        raise AssertionError(f"it does not end: {said}{errors}") from None
    return _judged(process.returncode, said, errors, out, youngest)


def _attack(attack: Attack, process: subprocess.Popen[str], rng: random.Random, started: float) -> float:
    """Send the signals; return the age of the youngest process that got one."""
    ranks = ranks_of(process.pid)
    victims = [psutil.Process(process.pid)] if attack.victim != "rank" or not ranks else []
    if attack.victim != "launcher" and ranks:
        rank = rng.choice(ranks)
        with suppress(psutil.Error):
            time.sleep(max(0.0, rank.create_time() + LISTENS_S - time.time()))
        victims.append(rank)
    youngest = time.time() - started
    for number, pause_s in zip(attack.numbers, attack.pauses_s, strict=True):
        for victim in victims:
            with suppress(psutil.Error, ProcessLookupError):
                youngest = min(youngest, time.time() - victim.create_time())
                if victim.pid != process.pid or process.poll() is None:
                    os.kill(victim.pid, number)
        time.sleep(pause_s)
    launched = [time.time() - rank.create_time() for rank in ranks_of(process.pid)]
    return min([youngest, *launched])  # a launcher passes signals on to ranks that have just begun


def ranks_of(launcher: int) -> list[psutil.Process]:
    """Return the ranks that a launcher has started on this machine."""
    found = []
    with suppress(psutil.Error):
        for child in psutil.Process(launcher).children(recursive=True):
            with suppress(psutil.Error):
                if child.cmdline()[1:3] == ["-m", "engine.train"]:
                    found.append(child)
    return found


def _judged(code: int, said: str, errors: str, out: Path, youngest: float) -> str:
    is_own_way = code in (0, 130) and "Traceback" not in errors
    if youngest < TOO_EARLY_S and not out.exists() and not is_own_way:
        return "killed before it could listen"  # by Python itself, perhaps with a traceback of its start
    assert "Traceback" not in said + errors, errors
    assert "Error" not in said + errors, errors
    metrics = out / "metrics.jsonl"
    written = metrics.read_text().splitlines() if metrics.exists() else []
    lines = [line for line in written if json.loads(line)["kind"] == "step"]
    if not lines:
        assert code == 130, f"exit code {code}: {errors}"
        assert errors.splitlines().count("interrupted") == 1, errors
        with suppress(UserError):
            find_checkpoint(out)
            raise AssertionError("a checkpoint without a step")
        assert not out.exists(), "a folder of a run that has not begun"
        return "interrupted before its first step"
    results = json.loads((out / "run.json").read_text())
    assert results["steps"] == len(lines), "a step that is in no checkpoint"
    if code == 0:
        assert results["steps"] == STEPS
        return "done"
    assert code == 130, f"exit code {code}: {errors}"
    assert results["interrupted"]
    assert errors.count("interrupted; go on with --resume") == 1, errors
    assert find_checkpoint(out).name == f"step-{len(lines):08d}"
    return "interrupted with a checkpoint"


def resumed_hash(out: Path) -> str:
    """Train to the end what was interrupted and return its hash."""
    done = run(
        sys.executable, "-m", "engine.train", "--resume", str(out), "--threads", "1", timeout=TIMEOUT_S
    )
    assert done.returncode == 0, done.stderr
    return str(json.loads((out / "run.json").read_text())["weights_sha256"])


def campaign(runs: int, seed: int, *, resume_every: int = 10) -> Counter[str]:
    """Return how often what happened; raise AssertionError, with the attack, at the first fault."""
    rng, counts, hashes = random.Random(seed), Counter[str](), set[str]()
    for number in range(runs):
        attack = Attack.draw(rng)
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcome = attacked(attack, Path(folder), rng)
                if outcome == "done":
                    results = json.loads((Path(folder) / "run/run.json").read_text())
                    hashes.add(results["weights_sha256"])
                elif "checkpoint" in outcome and number % resume_every == 0:
                    hashes.add(resumed_hash(Path(folder) / "run"))
                    counts["resumed"] += 1
            except AssertionError as error:
                raise AssertionError(f"run {number} of seed {seed}, {attack}: {error}") from error
        assert len(hashes) <= 1, f"run {number} of seed {seed}: other weights than before"
        counts[outcome] += 1
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.signals", description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for outcome, count in campaign(options.runs, options.seed).most_common():
        print(f"{count:5d}  {outcome}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
