"""Ranks whose registers have different widths."""

import json
import sys
from pathlib import Path

import pytest

from bench.launch import launcher
from layers.kernels.target import AVX2, AVX512, NEON, SSE2, TARGET
from tests.mpi.launch import run

NARROW = {AVX512: "haswell", AVX2: "nehalem", SSE2: "nehalem"}
SIMD = {"haswell": AVX2, "nehalem": SSE2}


@pytest.mark.skipif(TARGET.simd == NEON, reason="forces x86 processors")
def test_ranks_of_different_widths_train_the_bits_of_one(tmp_path: Path) -> None:
    def options(name: str) -> list[str]:
        return [
            sys.executable, "-m", "engine.train", "digits", "--threads", "1", "--epochs", "1",
            "--out", str(tmp_path / name),
        ]  # fmt: skip

    narrow = NARROW[TARGET.simd]
    forced = ["-x", f"NUMBA_CPU_NAME={narrow}", "-x", "NUMBA_CPU_FEATURES="]
    done = run(
        *launcher(), "-n", "1", *options("mixed"), ":", "-n", "1", *forced, *options("mixed"), timeout=120
    )
    assert done.returncode == 0, done.stderr
    alone = run(*options("alone"), timeout=120)
    assert alone.returncode == 0, alone.stderr
    mixed, one = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("mixed", "alone"))
    assert mixed["environment"]["simd"].split(", ") == list(dict.fromkeys([TARGET.simd, SIMD[narrow]]))
    assert mixed["weights_sha256"] == one["weights_sha256"]
    assert mixed["ranks"] == 2
