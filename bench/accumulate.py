"""The command ``python -m bench.accumulate``: what microbatches cost in time and save in memory."""

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
  python -m bench.accumulate                           VGG-A in 4 microbatches, and whole
  python -m bench.accumulate cifar10 --minibatch 128 --rounds 20

Whole training steps on the same minibatch, in processes of their own, taking turns; medians. The weights of
both after all steps must be the same, or the exit code is 1. Memory is the largest resident one of each.
Processor time is what to look at while others use the machine.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.accumulate",
        description="Compare training steps on a minibatch cut into microbatches with whole ones.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    model_option(parser)
    parser.add_argument("--accumulate", type=int, default=4, metavar="K", help="compared with 1; default 4")
    parser.add_argument("--leaves", type=int, default=16, metavar="N", help="of the minibatch; default 16")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="steps of each; default 7")
    machine.threads_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parser().parse_args(arguments)
    accumulate, leaves = options.accumulate, options.leaves
    try:
        samples = minibatch(options.model, options.minibatch)
        if leaves < 1 or not is_power_of_two(leaves) or samples % leaves:
            raise ValueError(f"leaves: got {leaves}; must be a power of two that divides {samples}")
        if accumulate < 2 or not is_power_of_two(accumulate) or accumulate > leaves:
            raise ValueError(
                f"accumulate: got {accumulate}; must be a power of two, 2 or more, up to {leaves}"
            )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    common = {"model": options.model, "samples": samples, "leaves": leaves, "threads": options.threads}
    common["norm_groups"] = (
        accumulate  # a microbatch is whole groups; on both sides, as they are the recipe's
    )
    common["pinned"] = machine.are_pinned(options.threads)
    seconds: dict[int, list[float]] = {1: [], accumulate: []}
    worked: dict[int, list[float]] = {1: [], accumulate: []}
    with ExitStack() as stack:
        sides = {
            count: stack.enter_context(closing(Worker({}, side="ours", accumulate=count, **common)))
            for count in seconds
        }
        for side in sides.values():
            side.ask("train", steps=2)
        for _ in range(options.rounds):
            for count, side in sides.items():
                done = side.ask("train", steps=1)
                seconds[count] += done["seconds"]
                worked[count] += done["processor_seconds"]
        hashes = [side.ask("weights_sha256") for side in sides.values()]
        held = [side.ask("peak_bytes") for side in sides.values()]
    result: dict[str, Any] = {
        "model": options.model,
        "minibatch": samples,
        "leaves": leaves,
        "microbatches": list(seconds),
        "step_seconds": [statistics.median(times) for times in seconds.values()],
        "processor_seconds": [statistics.median(times) for times in worked.values()],
        "peak_resident_bytes": held,
        "weights_sha256": hashes,
    }
    result["cost"], result["processor_cost"] = (
        statistics.median(cut / whole for whole, cut in zip(*times.values(), strict=True)) - 1
        for times in (seconds, worked)
    )
    if options.json:
        machine.print_json("accumulate", machine.describe(options.threads), **result)
    else:
        print("\n".join(_lines(result)))
    return int(len(set(hashes)) > 1)


def _lines(result: dict[str, Any]) -> list[str]:
    same = "the same bits" if len(set(result["weights_sha256"])) == 1 else "OTHER BITS"
    rows = zip(
        result["microbatches"],
        result["step_seconds"],
        result["processor_seconds"],
        result["peak_resident_bytes"],
        strict=True,
    )
    return [
        f"{result['model']}, minibatch {result['minibatch']} in {result['leaves']} leaves: {same}",
        "   microbatches    ms a step    of processors    MB at most",
        *(
            f"{count:>8} {1e3 * step:12.1f} {1e3 * work:16.1f} {most / 1e6:13,.0f}"
            for count, step, work, most in rows
        ),
        f"cost, medians of pairs: {100 * result['cost']:+.1f} % time, "
        f"{100 * result['processor_cost']:+.1f} % processor time",
    ]


if __name__ == "__main__":
    sys.exit(main())
