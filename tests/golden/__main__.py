"""The command: train all golden runs, and compare their hashes with those in the file, or write them."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

_EPILOG = """\
examples:
  python -m tests.golden                          all runs, on this CPU
  python -m tests.golden hybrid images            two of them
  python -m tests.golden --cpu haswell            with the instructions of another CPU (here AVX2)
  python -m tests.golden --rewrite                after a change that moves bits, which CHANGELOG.md names

NAME of --cpu is one that LLVM knows: it becomes NUMBA_CPU_NAME in the environment, and NUMBA_CPU_FEATURES is
empty. This machine must have its instructions. The exit code is 1 where a hash has moved, or where no run
uses one of the kernels.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m tests.golden", description=__doc__, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("runs", nargs="*", metavar="RUN", help="names of runs; default all")
    parser.add_argument("--rewrite", action="store_true", help="write what they end with into the file")
    parser.add_argument(
        "--cpu", metavar="NAME", help="whose instructions the kernels use; default this one's"
    )
    options = parser.parse_args(given)
    if options.cpu and os.environ.get("NUMBA_CPU_NAME") != options.cpu:  # read when numba is imported
        os.environ.update(NUMBA_CPU_NAME=options.cpu, NUMBA_CPU_FEATURES="")
        os.execv(sys.executable, [sys.executable, "-m", "tests.golden", *given])
    return _compare(options.runs, rewrite=options.rewrite)


def _compare(names: Sequence[str], *, rewrite: bool) -> int:
    from tests.golden import coverage, hashes  # noqa: PLC0415 -- they import numba
    from tests.golden.runs import RUNS, ends_with  # noqa: PLC0415

    unknown = [name for name in names if name not in RUNS]
    if unknown:
        print(f"error: runs: got {unknown[0]}; must be {', '.join(RUNS)}", file=sys.stderr)
        return 2
    kept = hashes.read()
    results, others = dict(kept), 0
    for name in names or RUNS:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            found = ends_with(RUNS[name], Path(folder))
        differences = hashes.moved(kept.get(name), found)
        others += bool(differences)
        results[name] = found
        word = "MOVED" if differences else "same "
        print(
            f"{word} {name:<17} {found['weights_sha256'][:16]}  {time.perf_counter() - start:4.1f} s",
            flush=True,
        )
        for difference in differences:
            print(f"      {difference}")
    left_out = [] if names else [name for name, is_used in coverage.kernels().items() if not is_used]
    if left_out:
        print(f"no golden run uses {', '.join(left_out)}: add one to tests/golden/runs.py")
    if rewrite:
        hashes.write(results)
        print(f"written: {hashes.FILE}")
        return 1 if left_out else 0
    if others:
        print(
            f"{others} of {len(names or RUNS)} runs have moved: where that is meant, CHANGELOG.md must say "
            "which bits move and why, and --rewrite writes them"
        )
    return 1 if others or left_out else 0


if __name__ == "__main__":
    sys.exit(main())
