"""The command: damage files in so many ways, and report what became of them."""

import argparse
import faulthandler
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from engine.data.readers.image_file import load_pillow
from tests.fuzz_readers.campaign import fuzz
from tests.fuzz_readers.targets import targets

_MOST_SHOWN = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 1 if a reader failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz_readers", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first run, to repeat one")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    faulthandler.enable()  # a decoder may end the process
    load_pillow()
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        chosen = targets(Path(folder))
        outcome = fuzz(chosen, range(options.first, options.first + options.runs), seed=options.seed)
    for target in chosen:
        print(
            f"{target.name:<36} read {outcome.read[target.name]:5}, refused {outcome.refused[target.name]:5}"
        )
    for failure in outcome.failures[:_MOST_SHOWN]:
        print(f"FAILED {failure}")
    slowest_s, slowest = outcome.slowest
    print(
        f"{options.runs} damaged files: {outcome.read.total()} read, {outcome.refused.total()} refused, "
        f"{len(outcome.failures)} failed; slowest {slowest_s:.2f} s ({slowest}); "
        f"{time.monotonic() - started:.0f} s in all, seed {options.seed}"
    )
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
