"""The processor that kernels are compiled for."""

import llvmlite.binding as llvm
import pytest

from layers.kernels.target import AVX2, AVX512, NEON, SSE2, TARGET, Target, target

on_x86 = pytest.mark.skipif(TARGET.simd == NEON, reason="names x86 processors")


def test_without_settings_it_is_the_host() -> None:
    found = target(None, None)
    assert (found.cpu, found.features) == (
        llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    )  # fmt: skip


@on_x86
@pytest.mark.parametrize(
    ("cpu", "features", "simd"),
    [
        ("haswell", "", AVX2),
        ("znver4", "", AVX512),
        ("sapphirerapids", "", AVX512),
        ("znver4", "-avx512f", AVX2),
        ("nehalem", "", SSE2),
        ("haswell", "-fma", SSE2),
        ("generic", "+avx512f", AVX512),
        ("generic", "", SSE2),
    ],
)
def test_numba_s_settings_choose_the_instructions(cpu: str, features: str, simd: str) -> None:
    assert target(cpu, features) == Target(cpu, features, simd)


def test_widths_and_registers() -> None:
    found = {simd: Target("", "", simd) for simd in (AVX512, AVX2, SSE2, NEON)}
    assert [(each.width, each.registers) for each in found.values()] == [(16, 32), (8, 16), (4, 16), (4, 32)]
    assert [each.fuses for each in found.values()] == [True, True, False, True]
