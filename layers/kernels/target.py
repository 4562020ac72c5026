"""The processor that kernels are compiled for: the host, or what numba's settings name instead.

``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` are numba's own settings; with both set, a machine with wide
registers computes as a narrower one would. No bit of a result depends on the target.
"""

from dataclasses import dataclass

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import config

AVX512, AVX2, SSE2, NEON = "avx512", "avx2", "sse2", "neon"
_WIDTHS = {AVX512: 16, AVX2: 8, SSE2: 4, NEON: 4}


@dataclass(frozen=True)
class Target:
    """A processor as the compiler knows it."""

    cpu: str
    """LLVM's name."""
    features: str
    """LLVM's list, such as ``+avx2,-avx512f``."""
    simd: str
    """The instructions of kernels: one of the names above."""

    @property
    def width(self) -> int:
        """Return the float32 values in one register."""
        return _WIDTHS[self.simd]

    @property
    def registers(self) -> int:
        """Return the number of vector registers."""
        return 32 if self.simd in (AVX512, NEON) else 16

    @property
    def fuses(self) -> bool:
        """Return whether it has fused multiply-adds; without, libm computes the same bits, far slower."""
        return self.simd != SSE2


def target(name: str | None, listed: str | None) -> Target:
    """Return what settings of numba mean: a processor's name, and its features; None is the host's."""
    host = llvm.get_host_cpu_features()
    cpu = llvm.get_host_cpu_name() if name is None else name
    features = host.flatten() if listed is None else listed
    if llvm.get_process_triple().startswith(("aarch64", "arm64")):
        return Target(cpu, features, NEON)
    if name is None and listed is None:
        fuses = host.get("avx2", False) and host.get("fma", False)
        return Target(cpu, features, (AVX512 if host.get("avx512f") else AVX2) if fuses else SSE2)
    return Target(cpu, features, _compiled_for(cpu, features))


def _compiled_for(cpu: str, features: str) -> str:
    """Return what the compiler makes of a vector of 16 multiply-adds: a name alone does not tell."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    vector = ir.VectorType(ir.FloatType(), 16)
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [vector.as_pointer()]), "probe")
    fma = ir.Function(module, ir.FunctionType(vector, [vector] * 3), "llvm.fma.v16f32")
    builder = ir.IRBuilder(function.append_basic_block())
    value = builder.load(function.args[0], align=4)
    builder.store(builder.call(fma, [value] * 3), function.args[0], align=4)
    builder.ret_void()
    machine = llvm.Target.from_default_triple().create_target_machine(cpu=cpu, features=features)
    code = machine.emit_assembly(llvm.parse_assembly(str(module)))
    if "vfmadd" not in code:
        return SSE2
    return AVX512 if "%zmm" in code else AVX2


TARGET = target(*(getattr(config, setting) for setting in ("CPU_NAME", "CPU_FEATURES")))
"""The processor of this process."""
