"""Ranks with other instructions train together, with the bits that all have alone: the golden ones."""

import json
import sys

import llvmlite.binding as llvm
import pytest

from bench.launch import launcher
from engine.host.mpirun import find_mpirun, is_open_mpi
from tests.golden import hashes
from tests.golden.runs import RUNS
from tests.mpi.launch import run

NARROW = "haswell"
"""A CPU with AVX2, as LLVM names it."""


@pytest.mark.skipif(
    not llvm.get_host_cpu_features().get("avx512f"), reason="wants AVX-512, beside which AVX2 is narrow"
)
@pytest.mark.skipif(
    not is_open_mpi(find_mpirun()), reason="several programs of one job are written for Open MPI"
)
@pytest.mark.parametrize("narrow", [0, 1])
def test_a_run_over_ranks_of_other_widths_ends_with_the_golden_hash(tmp_path, narrow):
    """One rank runs what an AVX2 machine would, the other one what AVX-512 has."""
    out = tmp_path / "run"
    train = (
        sys.executable, "-m", "engine.train", "digits", "--steps", str(RUNS["digits"].recipe.steps),
        "--threads", "1", "--out", str(out),
    )  # fmt: skip
    other = ("env", f"NUMBA_CPU_NAME={NARROW}", "NUMBA_CPU_FEATURES=", *train)
    programs = [train, train]
    programs[narrow] = other
    done = run(*launcher(), "-n", "1", *programs[0], ":", "-n", "1", *programs[1], timeout=300)  # compiles
    assert done.returncode == 0, done.stderr
    results = json.loads((out / "run.json").read_text())
    golden = hashes.read()["digits"]
    assert results["ranks"] == 2
    assert {name: results[name] for name in golden} == golden
