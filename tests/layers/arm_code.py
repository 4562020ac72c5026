"""``python -m tests.layers.arm_code``: the machine code of hot kernels for Arm, made on any machine, as JSON.

The kernels are generated with Arm's tiles and compiled for this machine, so they also run: ``digests`` are
those of `tests.layers.widths` with these tiles. Their LLVM code is then handed to the compiler for Arm.
Nothing may come from a cache of kernels (set NUMBA_CACHE_DIR to an empty folder).
"""

import json
import re

import llvmlite.binding as llvm

from layers.kernels import target

_TRIPLE, _CPU = "aarch64-unknown-linux-gnu", "neoverse-n1"


def for_arm(code: str) -> str:
    """Return Arm's assembly for a module that was made for x86."""
    code = re.sub(r'^target (triple|datalayout) = ".*"$', "", code, flags=re.MULTILINE)
    code = re.sub(r'"target-(cpu|features)"="[^"]*"', "", code)
    # what x86 has made of counting the references to an array
    code = re.sub(r"= (tail )?call i8 @llvm\.x86\.atomic[^\n]*", "= add i8 0, 0", code)
    machine = llvm.Target.from_triple(_TRIPLE).create_target_machine(cpu=_CPU, opt=3)
    return str(machine.emit_assembly(llvm.parse_assembly(code)))


def hot_block(assembly: str) -> list[str]:
    """Return the instructions of the block that has most multiply-adds."""
    blocks = re.split(r"^\.LBB\S+:.*$", assembly, flags=re.MULTILINE)
    return max(([line.strip() for line in block.splitlines()] for block in blocks), key=_multiply_adds)


def _multiply_adds(lines: list[str]) -> int:
    return sum(bool(re.match(r"fmla\s+v\d+\.4s", line)) for line in lines)


def main() -> None:
    """Print what was found."""
    target.TARGET = target.Target("generic", "", target.NEON)
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    # only now, as they read the target
    from layers.kernels import conv_direct, fully_connected, gemm  # noqa: PLC0415
    from layers.kernels.register_tile import TILE_ROWS  # noqa: PLC0415
    from tests.layers import widths  # noqa: PLC0415

    kernels = {
        "multiply": gemm._multiply(TILE_ROWS, 0, 2),
        "backward_weights": fully_connected._backward_weights(TILE_ROWS, 0, 2, 1, 0),
        "convolution": conv_direct._forward(TILE_ROWS, 0, 2, 1, 1, 0),
    }
    found = {}
    for name, compiled in kernels.items():
        (code,) = compiled.inspect_llvm().values()
        lines = hot_block(for_arm(code))
        found[name] = {"multiply_adds": _multiply_adds(lines), "stack": sum("[sp" in line for line in lines)}
    digests = widths.digests(widths.SUMMED)
    print(json.dumps({"rows": TILE_ROWS, "kernels": found, "digests": digests}))


if __name__ == "__main__":
    main()
