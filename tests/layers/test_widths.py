"""The same bits from registers of 16, 8 and 4 values."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from layers.kernels.target import AVX2, AVX512, NEON, SSE2, TARGET
from tests.layers.widths import PARTS, SUMMED, digests

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.skipif(TARGET.simd == NEON, reason="forces x86 processors")
@pytest.mark.parametrize(
    ("cpu", "simd", "part"),
    [
        *(
            (cpu, simd, f"third-{part}")
            for cpu, simd in (("skylake-avx512", AVX512), ("haswell", AVX2))
            for part in range(3)
        ),
        ("nehalem", SSE2, "few"),  # the slowest to compile, and no cluster's processor
    ],
)
def test_kernels_compute_the_same_bits_at_any_width(cpu: str, simd: str, part: str) -> None:
    wider = {AVX512: {SSE2, AVX2}, AVX2: {SSE2}, SSE2: set()}[simd]
    if TARGET.simd in wider:
        pytest.skip(f"this processor has no {simd}")
    if simd == TARGET.simd:
        pytest.skip("what the others are compared with")
    forced = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""}
    found = _said("tests.layers.widths", forced, part)
    assert found["simd"] == simd
    assert found["digests"] == digests(PARTS[part])


def _said(module: str, variables: dict[str, str], *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True, text=True, check=False, cwd=REPOSITORY, env={**os.environ, **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.skipif(TARGET.simd == NEON, reason="makes Arm's code on x86")
def test_code_for_arm_keeps_its_sums_in_registers_and_computes_the_same_bits(tmp_path: Path) -> None:
    found = _said("tests.layers.arm_code", {"NUMBA_CACHE_DIR": str(tmp_path)})
    for name, kernel in found["kernels"].items():
        assert kernel["multiply_adds"] >= 4 * found["rows"], name  # a vector is four registers
        assert kernel["stack"] <= kernel["multiply_adds"] / 4, name  # counters, and one sum at most
    assert found["digests"] == digests(SUMMED)
