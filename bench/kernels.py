"""The command ``python -m bench.kernels``: check every layer and pass, then time it against the machine."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from math import gcd
from typing import Any

from bench import against, check, machine
from bench.peak import Gauge, Timing
from bench.setup import Setup, prepare
from bench.shapes import PASSES, Problem, select
from comm.tree import is_power_of_two
from engine.config.recipe import ALGORITHMS, PRECISIONS
from layers.kernels.threads import Threads

DEFAULT_LEAVES = 16  # of a recipe

_EPILOG = """\
examples:
  python -m bench.kernels vgg_a:conv3             all layers whose name contains it
  python -m bench.kernels 'vgg_a:conv*' 'gemm:*'  patterns
  python -m bench.kernels overfeat --pass backward_weights --leaves 16
  python -m bench.kernels overfeat_fast:conv --conv direct   beside the same with Winograd
  python -m bench.kernels fc --minibatch 1        weights once through memory
  python -m bench.kernels pointwise: --against torch         1x1, beside PyTorch's best memory format
  python -m bench.kernels depthwise: --against torch --threads 1
  python -m bench.kernels --list                  the names, and nothing else

columns:
  ms          median of the samples
  executed    GFLOP/s of the multiply-adds that the kernel executes; w: by Winograd, without its transforms
  effective   GFLOP/s of the multiply-adds of the direct algorithm over the same time: more, with Winograd
  peak        executed, in % of the peak that the same threads reach from registers beside the samples
  GB/s        least traffic of the pass (each array once) over the time
  roof        in % of the speed that memory or the peak allows for this traffic and arithmetic; "bound" says
              which of the two limits it. Arrays that stay in the last-level cache may pass 100.
  error       relative L2 error against the float64 reference: on elements drawn at random of products, on
              one sample of other layers; above 2e-5 nothing is timed, and the exit code is 1. With
              --precision bf16 the reference has the same rounded operands; convolutions round y, too (2**-8)
  norms       pass by pass, as where ranks share a group: with whole groups dx and gradients are made at once
  torch, x    with --against torch: its milliseconds in its best memory format (c: contiguous,
              l: channels_last, b: oneDNN's own blocks), in turns with ours; how many times faster ours is
"""

_HEAD = (
    f"{'problem':34} {'pass':17} {'ms':>9} {'executed':>9} {'effective':>9} {'peak':>6} {'GB/s':>6} "
    f"{'roof':>6} {'bound':7} {'error':>8}"
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.kernels",
        description="Check and time the layers of VGG-A, OverFeat-FAST, CD-DNN, AlexNet, GoogLeNet and "
        "ResNet-50, depthwise and grouped convolutions, what stands between convolutions, and matrix "
        "products and convolutions of odd shapes, pass by pass.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "filters", nargs="*", metavar="FILTER", help="part of a name, or a pattern; default all"
    )
    parser.add_argument("--pass", dest="passes", action="append", choices=PASSES, help="only this pass")
    machine.threads_option(parser)
    parser.add_argument("--minibatch", type=int, metavar="N", help="samples; default each problem's own")
    parser.add_argument(
        "--leaves",
        type=int,
        metavar="N",
        help="leaves of the weight gradient's sum; default 16, or fewer",
    )
    parser.add_argument("--samples", type=int, default=5, metavar="N", help="samples of each pass; default 5")
    parser.add_argument(
        "--conv", choices=ALGORITHMS, default="auto", help="direct: no Winograd; default auto, as in recipes"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="fp32", help="of products, as in recipes; default fp32"
    )
    parser.add_argument("--against", choices=("torch",), help="beside PyTorch, in turns; convolutions only")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    parser.add_argument("--list", action="store_true", help="print the problems that would run")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        chosen = select(options.filters)
        _check_leaves(chosen, options.minibatch, options.leaves)
        if options.against:
            against.check(chosen)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.list:
        print(*chosen, sep="\n")
        return 0
    threads = Threads(options.threads)
    rows = _table(chosen, Gauge(threads), options)
    threads.close()
    return 0 if all(row["right"] for row in rows) else 1


def _table(chosen: Sequence[Problem], gauge: Gauge, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure and print; return the rows."""
    if not options.json:
        print(machine.line(machine.describe(options.threads, gauge)), flush=True)
        print(_HEAD + (f" {'torch':>9} {'x':>6}" if options.against else ""), flush=True)
    rows = []
    with ExitStack() as stack:
        peer = stack.enter_context(closing(against.Peer(gauge))) if options.against else None
        for row in _measure(chosen, gauge, options, peer):
            rows.append(row)
            if not options.json:
                print(_line(row), flush=True)
    if options.json:
        machine.print_json(
            "kernels",
            machine.describe(options.threads, gauge),
            leaves=options.leaves or DEFAULT_LEAVES,
            rows=rows,
        )
    elif options.against:
        print(*against.summary(rows), sep="\n")
    return rows


def _leaves(samples: int, wanted: int | None) -> int:
    """Return the leaves asked for, else a recipe's default, or fewer where they do not divide the samples."""
    return wanted or gcd(samples, DEFAULT_LEAVES)


def _check_leaves(chosen: Sequence[Problem], minibatch: int | None, leaves: int | None) -> None:
    if leaves is None:
        return
    if not is_power_of_two(leaves):
        raise ValueError(f"leaves: got {leaves}; must be a power of two")
    for problem in chosen:
        samples = minibatch or problem.minibatch
        if samples % leaves:
            raise ValueError(f"{problem.name}: minibatch {samples} does not divide into {leaves} leaves")


def _measure(
    chosen: Sequence[Problem], gauge: Gauge, options: argparse.Namespace, peer: against.Peer | None
) -> Iterator[dict[str, Any]]:
    for original in chosen:
        problem = original.at(options.minibatch or original.minibatch).with_convolution(options.conv)
        problem = problem.with_precision(options.precision)
        setup = prepare(problem, gauge.threads, leaves=_leaves(problem.minibatch, options.leaves))
        for direction in problem.passes():
            setup.run(direction)  # also the passes left out: a later one may read what this one writes
            if options.passes and direction not in options.passes:
                continue
            error = check.error(setup, direction)
            allowed = check.tolerance(setup, direction)
            if error <= allowed and peer is not None:
                ours = gauge.mean_of(partial(setup.run, direction), against.LEAST_S)
                versus = peer.versus(problem, direction, ours, options.samples)
                row = _row(setup, direction, error, gauge, versus.ours)
                yield row | {"torch_ms": _in_ms(versus.torch), "layout": versus.layout, "ratio": versus.ratio}
            elif error <= allowed:
                timing = gauge.time(partial(setup.run, direction), samples=options.samples)
                yield _row(setup, direction, error, gauge, timing)
            else:
                wrong = {"problem": problem.name, "pass": direction, "error": error, "allowed": allowed}
                yield wrong | {"right": False}


def _in_ms(seconds: dict[str, float]) -> dict[str, float]:
    return {layout: 1e3 * value for layout, value in seconds.items()}


def _row(setup: Setup, direction: str, error: float, gauge: Gauge, timing: Timing) -> dict[str, Any]:
    problem, seconds = setup.problem, timing.median
    moved, executed = setup.moved_bytes(direction), setup.executed_flops(direction)
    arithmetic_s, memory_s = executed / timing.peak, moved / max(gauge.read, gauge.copy)
    return {
        "problem": problem.name,
        "layer": str(problem.layer),
        "inputs": problem.inputs,
        "minibatch": problem.minibatch,
        "pass": direction,
        "winograd": setup.is_winograd(direction),
        "ms": 1e3 * seconds,
        "ms_best": 1e3 * timing.best,
        "samples": len(timing.seconds),
        "samples_repeated": timing.repeated,
        "gflops_executed": executed / seconds / 1e9,
        "gflops_effective": problem.flops() / seconds / 1e9,
        "peak_gflops": timing.peak / 1e9,
        "percent_of_peak": 100 * executed / seconds / timing.peak,
        "gbytes_per_s": moved / seconds / 1e9,
        "percent_of_roofline": 100 * max(arithmetic_s, memory_s) / seconds,
        "bound": "memory" if memory_s > arithmetic_s else "compute",
        "error": error,
        "right": True,
    }


def _line(row: dict[str, Any]) -> str:
    start = f"{row['problem']:34} {row['pass']:17}"
    if not row["right"]:
        return f"{start} WRONG: relative error {row['error']:.1e}, allowed {row['allowed']:.0e}; not timed"
    arithmetic = f"{'':9} {'':9} {'':6}"
    if row["gflops_effective"]:
        arithmetic = (
            f"{row['gflops_executed']:8.1f}{'w' if row['winograd'] else ' '} "
            f"{row['gflops_effective']:9.1f} {row['percent_of_peak']:5.1f}%"
        )
    peer = ""
    if "ratio" in row:
        letter = {"contiguous": "c", "channels_last": "l", "blocked": "b"}[row["layout"]]
        peer = f" {row['torch_ms'][row['layout']]:8.3f}{letter} {row['ratio']:6.2f}"
    return (
        f"{start} {row['ms']:9.3f} {arithmetic} {row['gbytes_per_s']:6.1f} "
        f"{row['percent_of_roofline']:5.1f}% {row['bound']:7} {row['error']:8.1e}{peer}"
    )


if __name__ == "__main__":
    sys.exit(main())
