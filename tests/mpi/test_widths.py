"""Ranks with other instructions train together, with the bits that all have alone: the golden ones."""

import json
import sys

import pytest

from bench.launch import launcher
from engine.host.mpirun import find_mpirun, is_open_mpi
from layers.kernels.target import AVX2, AVX512, NEON, SSE2, TARGET
from tests.golden import hashes
from tests.golden.runs import RUNS
from tests.mpi.launch import run

NARROW = {AVX512: ("haswell", AVX2), AVX2: ("nehalem", SSE2), SSE2: ("nehalem", SSE2)}
"""A CPU whose registers are narrower than this one's, as LLVM names it, and its instructions."""


@pytest.mark.skipif(TARGET.simd == NEON, reason="forces x86 processors")
@pytest.mark.skipif(
    not is_open_mpi(find_mpirun()), reason="several programs of one job are written for Open MPI"
)
@pytest.mark.parametrize("narrow", [0, 1])
def test_a_run_over_ranks_of_other_widths_ends_with_the_golden_hash(tmp_path, narrow):
    cpu, simd = NARROW[TARGET.simd]
    out = tmp_path / "run"
    train = (
        sys.executable, "-m", "engine.train", "digits", "--steps", str(RUNS["digits"].recipe.steps),
        "--threads", "1", "--out", str(out),
    )  # fmt: skip
    other = ("env", f"NUMBA_CPU_NAME={cpu}", "NUMBA_CPU_FEATURES=", *train)
    programs = [train, train]
    programs[narrow] = other
    done = run(*launcher(), "-n", "1", *programs[0], ":", "-n", "1", *programs[1], timeout=300)  # compiles
    assert done.returncode == 0, done.stderr
    results = json.loads((out / "run.json").read_text())
    golden = hashes.read()["digits"]
    assert results["ranks"] == 2
    both = [TARGET.simd, simd] if narrow else [simd, TARGET.simd]
    assert results["environment"]["simd"].split(", ") == list(dict.fromkeys(both))
    assert {name: results[name] for name in golden} == golden
