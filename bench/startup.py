"""The command ``python -m bench.startup``: from nothing to the first training step, cold and warm."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import machine
from bench.options import minibatch, model_option

_EPILOG = """\
examples:
  python -m bench.startup                  VGG-A, one cold and three warm starts
  python -m bench.startup cifar10 --warm 5 --minibatch 128

A start is a new process: interpreter and imports, the graph with its memory and initial weights, and the
first training step, which compiles the kernels that it needs or reads them from the cache. "cold" has an
empty kernel cache in a temporary folder, "warm" what the cold start left there. A second step in the same
process says how long a step is without any of that. Wall seconds; of the warm starts the median.
"""

_PHASES = ("imports", "build", "first_step", "second_step")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.startup",
        description="Time from the start of a process to the end of its first training step, with an empty "
        "kernel cache and with a full one.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    model_option(parser)
    parser.add_argument("--leaves", type=int, default=16, metavar="N", help="default 16")
    parser.add_argument("--warm", type=int, default=3, metavar="N", help="warm starts; default 3")
    machine.threads_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        samples = minibatch(options.model, options.minibatch)
        if samples % options.leaves or options.warm < 1:
            raise ValueError(f"{samples} samples must divide into --leaves, --warm be at least 1")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    command = [options.model, samples, options.leaves, options.threads]
    with tempfile.TemporaryDirectory() as cache:
        cold = _start(command, cache)
        warm = [_start(command, cache) for _ in range(options.warm)]
    rows = [{"start": "cold", **cold}]
    rows.append({"start": "warm", **{key: statistics.median(one[key] for one in warm) for key in cold}})
    if options.json:
        fields = {"model": options.model, "minibatch": samples, "leaves": options.leaves}
        machine.print_json("startup", machine.describe(options.threads), **fields, rows=rows)
        return 0
    print(f"{options.model}, minibatch {samples}, {options.threads} threads; wall seconds")
    print(f"{'':6} {'total':>8} " + " ".join(f"{phase:>12}" for phase in _PHASES))
    for row in rows:
        print(f"{row['start']:6} {row['total']:8.2f} " + " ".join(f"{row[phase]:12.2f}" for phase in _PHASES))
    return 0


def _start(command: Sequence[Any], cache: str) -> dict[str, float]:
    """Return the seconds of each phase, and those until the end of the first step."""
    began = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "bench.ours", *map(str, command)],
        env=os.environ | {"NUMBA_CACHE_DIR": cache}, cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    imported, built, first, second = map(float, done.stdout.split())
    phases = (imported - began, built - imported, first - built, second - first)
    return {"total": first - began, **dict(zip(_PHASES, phases, strict=True))}


if __name__ == "__main__":
    sys.exit(main())
