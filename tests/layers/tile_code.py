"""``python -m tests.layers.tile_code``: the loops of kernels for Intel's tile unit, made on any x86, as JSON.

numba's settings must name a processor that has one (NUMBA_CPU_NAME=sapphirerapids, no features); nothing is
run. For each kernel: how often each instruction on tiles stands in it, and in innermost loops with products.
"""

import json
import re
from collections import Counter
from typing import Any

from layers.kernels import conv_tiles, conv_tiles_weights, linear_tiles
from layers.kernels.tile_unit import HARDWARE
from tests.layers import harness

INSTRUCTIONS = ("tdpbf16ps", "tileloadd", "tilestored", "tilezero", "ldtilecfg", "tilerelease")


def instructions(lines: list[str]) -> dict[str, int]:
    """Count the instructions on tiles, and those that touch the stack."""
    words = Counter(line.split()[0] for line in lines if line.strip())
    return {name: words[name] for name in INSTRUCTIONS} | {"stack": sum("(%rsp" in line for line in lines)}


def loops(assembly: str) -> list[list[str]]:
    """Return the innermost loops that hold products of tiles."""
    lines, labels, found = assembly.splitlines(), dict[str, int](), []
    for at, line in enumerate(lines):
        if label := re.match(r"(\.L\w+):", line):
            labels[label[1]] = at
        jump = re.match(r"\s+j\w+\s+(\.L\w+)", line)
        if jump and jump[1] in labels:
            body = lines[labels[jump[1]] : at]
            if not any(re.match(r"\.L\w+:", inner) for inner in body[1:]):
                found.append(body)
    return [body for body in found if any("tdpbf16ps" in line for line in body)]


def described(kernel: Any) -> dict[str, Any]:
    """Return the instructions of a kernel and of its loops, and the tiles of the products of the largest."""
    assembly = harness.assembly(kernel)
    hot = loops(assembly)
    largest = max(hot, key=lambda body: instructions(body)["tdpbf16ps"])
    return {
        "all": instructions(assembly.splitlines()),
        "loops": [instructions(body) for body in hot],
        "products": [[int(tile) for tile in re.findall(r"%tmm(\d)", x)] for x in largest if "tdpbf16ps" in x],
    }


def main() -> None:
    """Print what was found."""
    kernels = {
        "convolution": conv_tiles._kernel(HARDWARE, 0, True),
        "product": linear_tiles._kernel(HARDWARE),
        "weights": conv_tiles_weights._kernel(HARDWARE, 1, 1),
    }
    print(json.dumps({name: described(kernel) for name, kernel in kernels.items()}))


if __name__ == "__main__":
    main()
