"""The command ``python -m bench.leaves``: the cost of the fixed tree in a training step."""

import argparse
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any

from bench import machine
from bench.options import minibatch, model_option
from bench.worker import Worker
from comm.tree import is_power_of_two

_EPILOG = """\
examples:
  python -m bench.leaves                           VGG-A with 16 leaves and with 1
  python -m bench.leaves vgg_a --minibatch 128

With one leaf every sum of a gradient is a single chain; with more, each leaf's sum is added to the tree.
Whole training steps of both, in processes of their own, taking turns; medians.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.leaves",
        description="Compare training steps with many leaves and with one.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    model_option(parser)
    parser.add_argument("--leaves", type=int, default=16, metavar="N", help="compared with 1; default 16")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="steps of each; default 5")
    machine.threads_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parser().parse_args(arguments)
    leaves = options.leaves
    try:
        samples = minibatch(options.model, options.minibatch)
        if leaves < 2 or not is_power_of_two(leaves) or samples % leaves:
            raise ValueError(
                f"leaves: got {leaves}; must be a power of two, 2 or more, that divides {samples}"
            )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    common = {"model": options.model, "samples": samples, "threads": options.threads}
    seconds: dict[int, list[float]] = {1: [], leaves: []}
    with ExitStack() as stack:
        sides = {
            count: stack.enter_context(closing(Worker({}, side="ours", leaves=count, **common)))
            for count in seconds
        }
        for side in sides.values():
            side.ask("train", steps=2)
        for _ in range(options.rounds):
            for count, side in sides.items():
                seconds[count] += side.ask("train", steps=1)["seconds"]
    result: dict[str, Any] = {
        "model": options.model,
        "minibatch": samples,
        "step_seconds": {str(count): statistics.median(times) for count, times in seconds.items()},
    }
    one, many = result["step_seconds"].values()
    result["cost"] = many / one - 1
    if options.json:
        machine.print_json("leaves", machine.describe(options.threads), **result)
    else:
        print(
            f"{options.model}, minibatch {samples}: {1e3 * one:.1f} ms a step with 1 leaf, "
            f"{1e3 * many:.1f} ms with {leaves}: {100 * result['cost']:+.1f} %"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
