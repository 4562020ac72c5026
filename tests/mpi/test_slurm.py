"""Under a real Slurm: srun trains, a job is requeued before its time is over, and a lost node is left out."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.mpi.launch import REPOSITORY, run
from tests.mpi.slurm import MissingError, Slurm, slurm

SCRIPT = REPOSITORY / "docs" / "slurm" / "lockstep.sbatch"
MPICH = REPOSITORY / ".venv-mpich" / "lib" / "libmpi.so.12"
STEPS = 100
OPTIONS = (
    "--steps", str(STEPS), "--batch", "512", "--evaluate-every", "10", "--threads", "1",
    "--checkpoint-every", "0", "--checkpoint-steps", "10",
)  # fmt: skip
TIMEOUT_S = 240.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if not MPICH.exists():
        pytest.skip("MPICH is not installed in .venv-mpich: make other-mpis")
    try:
        with slurm(tmp_path_factory.mktemp("slurm")) as made:
            yield made
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("whole") / "run"
    done = run(sys.executable, "-m", "engine.train", *OPTIONS, "--out", str(out), timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    return str(json.loads((out / "run.json").read_text())["weights_sha256"])


def environment(**more: str) -> dict[str, str]:
    """Return what a user's job has: this Python's `lockstep` in PATH, and MPICH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "MPI4PY_LIBMPI": str(MPICH), "PYTHONPATH": str(REPOSITORY), **more}


def submitted(cluster: Slurm, folder: Path, *options: str) -> str:
    done = cluster.run(
        "sbatch", "--parsable", f"--output={folder}/said", *options, str(SCRIPT), *OPTIONS,
        env=environment(OUT=str(folder / "run")),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wait_until(folder: Path, holds: Callable[[], object]) -> None:
    until = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < until, (folder / "said").read_text()
        time.sleep(0.05)


def has_saved(folder: Path, step: int) -> bool:
    found = sorted((folder / "run" / "checkpoints").glob("step-????????"))
    return bool(found) and int(found[-1].name.removeprefix("step-")) >= step


def ranks_in(folder: Path) -> list[psutil.Process]:
    """Return the ranks of a job, without their launchers, the first one first."""
    found = []
    for process in psutil.process_iter():
        line = process.info if hasattr(process, "info") else process.cmdline()
        if "engine.train" in line and "srun" not in line[0] and str(folder / "run") in " ".join(line):
            found.append(process)
    return sorted(found, key=lambda each: int(each.environ()["SLURM_PROCID"]))


def results(folder: Path) -> dict:
    wait_until(folder, (folder / "run" / "run.json").exists)
    return json.loads((folder / "run" / "run.json").read_text())


def test_without_its_flag_srun_is_refused_and_the_line_names_the_flag(cluster: Slurm) -> None:
    train = (sys.executable, "-m", "engine.train", "--steps", "2")
    done = cluster.run("srun", "--mpi=none", "-n", "2", *train, env=environment())
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: srun started 2 processes but MPI sees 1: MPICH ")
    assert "without --mpi=pmi2; give srun that flag" in line
    assert done.returncode == 2


def test_a_job_loses_a_rank_is_requeued_before_its_time_is_over_and_ends_with_the_same_bits(
    cluster: Slurm, tmp_path: Path, wanted: str
) -> None:
    job = submitted(cluster, tmp_path, "--nodes=1", "--ntasks-per-node=2")
    wait_until(tmp_path, lambda: has_saved(tmp_path, 10))
    ranks_in(tmp_path)[1].kill()
    wait_until(tmp_path, (tmp_path / "run" / "restarts.jsonl").exists)
    wait_until(tmp_path, lambda: has_saved(tmp_path, 40))
    cluster.run("scancel", "--signal=USR1", "--batch", job)  # as --signal=B:USR1@300 does
    wait_until(tmp_path, lambda: "interrupted; go on with --resume" in (tmp_path / "said").read_text())
    wait_until(tmp_path, lambda: "JobState=PENDING" in cluster.run("scontrol", "show", "job", job).stdout)
    cluster.run("scontrol", "update", f"jobid={job}", "StartTime=now")  # Slurm itself waits two minutes
    wait_until(tmp_path, lambda: "done; results in" in (tmp_path / "said").read_text())
    found = results(tmp_path)
    assert (found["steps"], found["weights_sha256"]) == (STEPS, wanted)
    assert found["restarts"] >= 1  # MPICH may fail to start, too, where nodes are not machines
    assert "rank 1 on n1 was ended by SIGKILL after step " in (tmp_path / "said").read_text()


def test_a_job_that_loses_a_node_goes_on_with_the_other_one(
    cluster: Slurm, tmp_path: Path, wanted: str
) -> None:
    submitted(cluster, tmp_path, "--nodes=2", "--ntasks-per-node=1")
    wait_until(tmp_path, lambda: has_saved(tmp_path, 10))
    rank = ranks_in(tmp_path)[1]
    node = rank.environ()["SLURMD_NODENAME"]
    cluster.lose(node)
    for each in (*rank.parents()[:1], rank):
        each.kill()
    found = results(tmp_path)
    assert (found["ranks"], found["weights_sha256"]) == (1, wanted)
    assert found["restarts"] >= 1
    assert f"{node} does not answer: 1 of 2 ranks left" in (tmp_path / "said").read_text()
