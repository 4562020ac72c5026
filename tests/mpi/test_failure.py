"""A job that fails on one rank ends on all ranks, quickly, and says which rank and why."""

import json
import re
import subprocess
import sys
import time

import pytest

from tests.mpi.launch import mpirun, run

WORKER = ("-m", "tests.mpi.workers.fails")


def ends(ranks: int, way: str, interrupt_on: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the worker, which would otherwise wait for ever; check that it ends within seconds."""
    started = time.monotonic()
    done = mpirun(ranks, *WORKER, way, timeout=20, interrupt_on=interrupt_on)
    assert time.monotonic() - started < 10
    return done


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize(
    ("way", "line"),
    [
        ("main thread", "ArithmeticError: the sum is wrong"),
        ("comm thread", "ConnectionError: the link is down"),
        ("reader thread", "OSError: the disk is gone"),
    ],
)
def test_an_error_on_one_rank_ends_all_and_names_the_rank(ranks: int, way: str, line: str) -> None:
    done = ends(ranks, way)
    assert done.returncode == 1
    assert f"rank {ranks - 1}: {line}" in done.stderr
    assert done.stderr.count(line) == 1


@pytest.mark.parametrize("way", ["main thread", "comm thread", "reader thread"])
def test_an_error_of_one_rank_alone_ends_it(way: str) -> None:
    done = run(sys.executable, *WORKER, way)
    assert done.returncode == 1
    assert done.stderr.count("Error: ") == 1


@pytest.mark.parametrize("ranks", [1, 2])
def test_fail_gives_one_line_and_exit_code_2(ranks: int) -> None:
    done = ends(ranks, "fail")
    assert done.returncode == 2
    assert done.stderr.splitlines().count("error: minibatch=10 does not divide into 16 leaves") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("ranks", [1, 2])
def test_ranks_that_agree_on_an_error_leave_with_exit_code_2(ranks: int) -> None:
    done = ends(ranks, "agree")
    assert done.returncode == 2
    assert done.stderr.splitlines().count("error: no such folder: data") == 1


@pytest.mark.parametrize("ranks", [1, 2])
def test_ctrl_c_to_mpirun_ends_all_without_a_traceback(ranks: int) -> None:
    done = ends(ranks, "interrupt", interrupt_on="running")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_ctrl_c_to_one_rank_alone_gives_one_line_and_exit_code_130() -> None:
    done = run(sys.executable, *WORKER, "interrupt", interrupt_on="running")
    assert done.returncode == 130
    assert done.stderr == "interrupted\n"


def test_a_run_that_gets_nowhere_says_where_each_rank_is_and_ends(tmp_path):
    stops = json.dumps([[1, "backward", 5, 0.0, "stop"]])
    options = ("--batch", "256", "--steps", "60", "--threads", "1", "--stalled-after", "6")
    done = mpirun(3, "-m", "tests.mpi.workers.dies", stops, "--", *options, "--out", str(tmp_path / "run"))
    assert done.returncode == 1, done.stderr
    for rank in (0, 2):
        (line,) = [line for line in done.stderr.splitlines() if line.startswith(f"rank {rank} on ")]
        assert ": nothing moves for " in line
        assert re.search(r"; the main thread is at \w+/.*\.py:\d+ \(.*\)", line)
        assert re.search(r" exchanges messages with rank", line)
    assert re.search(r"error: rank [02]: nothing has moved for [678] s; ", done.stderr)
