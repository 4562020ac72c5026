"""Training with MPI's own collectives: the same sums, added in MPI's order."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.mpi_reductions import WAYS
from tests.mpi.launch import mpirun


def trained(module: str, ranks: int, out: Path, *options: str) -> dict[str, Any]:
    words = ("-m", module, "digits", "--steps", "6", *options, "--out", str(out))
    done = mpirun(ranks, *words, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "run.json").read_text())


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the engine's own sums lead to, on any number of ranks."""
    return trained("engine.train", 2, tmp_path_factory.mktemp("ours") / "run")


@pytest.mark.parametrize("overlap", ["on", "off"])
@pytest.mark.parametrize("way", WAYS)
def test_two_ranks_add_in_one_order_only(
    way: str, overlap: str, tmp_path: Path, ours: dict[str, Any]
) -> None:
    theirs = trained("bench.mpi_reductions", 2, tmp_path / "mpi", "--way", way, "--overlap", overlap)
    assert theirs["weights_sha256"] == ours["weights_sha256"]


@pytest.mark.parametrize("way", WAYS)
def test_four_ranks_learn_the_same_within_rounding(way: str, tmp_path: Path, ours: dict[str, Any]) -> None:
    theirs = trained("bench.mpi_reductions", 4, tmp_path / "mpi", "--way", way)
    assert theirs["final_loss"] == pytest.approx(ours["final_loss"], rel=1e-5)


def test_three_ranks_are_refused_in_one_line() -> None:
    done = mpirun(3, "-m", "bench.mpi_reductions", "digits")
    assert done.returncode == 2
    assert "error: got 3 ranks; must be a power of two" in done.stderr
