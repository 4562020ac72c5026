"""The command ``python -m bench.blocking``: block sizes of the fewest bytes per FLOP, found by search."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from bench import machine
from bench.peak import Gauge
from bench.shapes import Problem, select
from layers import blocking
from layers.blocking import Blocking, Nest
from layers.kernels.caches import caches
from layers.kernels.threads import Threads

_EPILOG = """\
examples:
  python -m bench.blocking vgg_a
  python -m bench.blocking overfeat_fast --minibatch 1 --cache 128   the setting of the published figures
  python -m bench.blocking resnet50 --peak 2400 --bandwidth 110      another machine: no measurement

columns:
  block   samples x output maps x input maps x rows x columns of one block, as the pass sees them: in
          backward_data the output is dx. It takes "KB" of the cache.
  walk    the loop along which blocks follow each other: ifm keeps the results in the cache, ofm the
          inputs, pixels the weights
  tile    registers: rows (+ a last tile of fewer) x vectors
  B/F     bytes from behind the cache per FLOP of the direct algorithm
  bound   memory, where these bytes take longer than the arithmetic; else compute

Which of these sizes the kernels use: see layers/blocking.py.
"""

_HEAD = f"{'layer':24} {'pass':17} {'block':>24} {'KB':>6} {'walk':7} {'tile':>9} {'B/F':>8} bound"


def nest_of(problem: Problem, direction: str) -> Nest | None:
    """Return the loops of a pass; None for a layer that does not multiply, or in groups."""
    loops = problem.layer.extents(*problem.inputs)
    if loops is None or loops.groups > 1:
        return None
    channels, image, kernel = (loops.ifm, loops.ofm), (loops.ih, loops.iw), (loops.kh, loops.kw)
    return blocking.nest(direction, problem.minibatch, channels, image, kernel, loops.stride, loops.padding)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.blocking",
        description="Search the block sizes that move the fewest bytes per FLOP, and print them for each "
        "layer and pass.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "filters", nargs="*", metavar="FILTER", help="part of a name, or a pattern; default all"
    )
    parser.add_argument("--minibatch", type=int, metavar="N", help="samples; default each problem's own")
    parser.add_argument(
        "--cache", type=int, default=0, metavar="KB", help="of a thread; default half the second-level cache"
    )
    parser.add_argument("--peak", type=float, metavar="GFLOPS", help="of all threads; default: measured")
    parser.add_argument("--bandwidth", type=float, metavar="GB/S", help="of memory; default: measured")
    machine.threads_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        chosen = [problem.at(options.minibatch or problem.minibatch) for problem in select(options.filters)]
        rates = _rates(options)
        rows = list(_rows(chosen, options.cache * 1024, *rates))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        fields = {"peak_gflops": rates[0] / 1e9, "gbytes_per_s": rates[1] / 1e9}
        tables = [{**row, "blocking": asdict(row["blocking"])} for row in rows]
        machine.print_json("blocking", fields, rows=tables)
        return 0
    budget = options.cache * 1024 or int(blocking.L2_SHARE * caches().l2)
    print(f"{budget // 1024} KB a thread; {rates[0] / 1e9:.0f} GFLOP/s, {rates[1] / 1e9:.0f} GB/s")
    print(_HEAD)
    print(*map(_line, rows), sep="\n")
    return 0


def _rates(options: argparse.Namespace) -> tuple[float, float]:
    """Return FLOP/s and bytes/s: options, else measured."""
    if options.peak and options.bandwidth:
        return 1e9 * options.peak, 1e9 * options.bandwidth
    threads = Threads(options.threads)
    gauge = Gauge(threads)
    threads.close()
    peak = 1e9 * options.peak if options.peak else gauge.peak
    return peak, 1e9 * options.bandwidth if options.bandwidth else max(gauge.read, gauge.copy)


def _rows(chosen: Sequence[Problem], cache: int, peak: float, bandwidth: float) -> Iterator[dict[str, Any]]:
    for problem in chosen:
        for direction in problem.passes():
            loops = nest_of(problem, direction)
            if loops is not None:
                found = blocking.search(loops, cache)
                bound = found.bound(peak, bandwidth)
                yield {"layer": problem.name, "pass": direction, "blocking": found, "bound": bound}


def _line(row: dict[str, Any]) -> str:
    found: Blocking = row["blocking"]
    block = found.block
    sizes = f"{block.minibatch} x {block.ofm} x {block.ifm} x {block.oh} x {block.ow}"
    return (
        f"{row['layer']:24} {row['pass']:17} {sizes:>24} {found.block_bytes / 1024:6.0f} {found.walk:7} "
        f"{found.tile!s:>9} {found.bytes_per_flop:8.4f} {row['bound']}"
    )


if __name__ == "__main__":
    sys.exit(main())
