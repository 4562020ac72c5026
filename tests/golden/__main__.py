"""The command: train all golden runs, and compare their hashes with those in the file, or write them."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

_EPILOG = """\
examples:
  python -m tests.golden                          all runs, on this CPU
  python -m tests.golden hybrid images            two of them
  python -m tests.golden --cpu haswell            with the instructions of another CPU (here AVX2)
  python -m tests.golden --unit registers         bf16 without this machine's tiles
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
    parser.add_argument(
        "--unit", choices=("registers", "hardware", "software"), metavar="UNIT",
        help="what makes products of bf16: registers, hardware (tiles), software (such tiles in memory; "
        "slow), but for runs that say it themselves; default the fastest that this CPU has",
    )  # fmt: skip
    options = parser.parse_args(given)
    wanted = {"NUMBA_CPU_NAME": options.cpu, "NUMBA_CPU_FEATURES": ""}
    if options.cpu and not wanted.items() <= os.environ.items():  # they are read when numba is imported
        os.environ.update(wanted)
        os.execv(sys.executable, [sys.executable, "-m", "tests.golden", *given])
    return _compare(options.runs, rewrite=options.rewrite, unit=options.unit)


def _compare(names: Sequence[str], *, rewrite: bool, unit: str | None) -> int:
    from tests.golden import coverage, publish  # noqa: PLC0415 -- they import numba
    from tests.golden.runs import RUNS  # noqa: PLC0415

    unknown = [name for name in names if name not in RUNS]
    if unknown:
        print(f"error: runs: got {unknown[0]}; must be {', '.join(RUNS)}", file=sys.stderr)
        return 2
    recipes = () if names else publish.RECIPES
    others = _compare_runs(names or list(RUNS), rewrite=rewrite, unit=unit)
    others += _compare_published(recipes, rewrite=rewrite)
    left_out = [] if names else [name for name, is_used in coverage.kernels().items() if not is_used]
    if left_out:
        print(f"no golden run uses {', '.join(left_out)}: add one to tests/golden/runs.py")
    if others and not rewrite:
        print(
            f"{others} of {len(names or RUNS) + len(recipes)} runs have moved: where that is meant, "
            "CHANGELOG.md must say which bits move and why, and --rewrite writes them"
        )
    return 1 if left_out or (others and not rewrite) else 0


def _compare_runs(names: Sequence[str], *, rewrite: bool, unit: str | None) -> int:
    """Return how many runs end with other results than those in the file; or write these."""
    from layers.products import Unit  # noqa: PLC0415 -- as above
    from tests.golden import hashes  # noqa: PLC0415
    from tests.golden.runs import RUNS, ends_with  # noqa: PLC0415

    chosen = {} if unit is None else {"unit": Unit[unit.upper()]}
    kept, others = hashes.read(), 0
    results = dict(kept)
    for name in names:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            run = RUNS[name]
            results[name] = ends_with(run if run.unit else replace(run, **chosen), Path(folder))
        differences = hashes.moved(kept.get(name), results[name])
        others += bool(differences)
        seconds = time.perf_counter() - start
        _say(name, results[name]["weights_sha256"], f"  {seconds:4.1f} s", is_same=not differences)
        for difference in differences:
            print(f"      {difference}")
    if rewrite:
        hashes.write(results)
        print(f"written: {hashes.FILE}")
    return others


def _compare_published(names: Sequence[str], *, rewrite: bool) -> int:
    """Return how many shipped recipes end with another hash than the one that is published; or write it."""
    from engine.run import published  # noqa: PLC0415 -- as above
    from tests.golden import publish  # noqa: PLC0415

    others = 0
    for name in names:
        before, ended = published.read_published().get(name), publish.train(name)
        others += before != ended
        _say(f"published {name}", ended.weights_sha256, "", is_same=before == ended)
        if before != ended:
            print(f"      was {before}")
        if rewrite:
            publish.write(name, ended)
            print(f"written: {published.FILE}")
    return others


def _say(name: str, sha256: str, behind: str, *, is_same: bool) -> None:
    print(f"{'same ' if is_same else 'MOVED'} {name:<17} {sha256[:16]}{behind}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
