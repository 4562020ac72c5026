"""The command ``python -m engine.explain``: say where the time of a run went, and draw one step."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comm import failure, terminal
from engine.config.command_line import Parser, add_overwrite
from engine.config.errors import UserError
from engine.config.files import check_place, read_bytes, reading
from engine.config.paths import expand
from engine.host.stop_signals import listening
from engine.profile.breakdown import Breakdown, combine
from engine.profile.recorder import STEP, Span
from engine.profile.span_sums import steady_steps, sum_spans
from engine.profile.trace_file import Trace, note, read_trace
from engine.run.run_folder import RESULTS

DRAWN_RANKS = 16

_EPILOG = """\
examples:
  mpirun -n 2 python -m engine.train vgg_a --data synthetic --steps 10 --trace trace.json --out runs/vgg
  python -m engine.explain runs/vgg                       the table that the run ended with
  python -m engine.explain trace.json                     the same, from the spans
  python -m engine.explain trace.json --out step.png      and one step as a picture: a row per thread

The table: means over all steps but the first few, and over ranks. Exposed communication is what held the
training up, by layer; hidden is what ran beside the compute. On one rank there is no communication. Of more
than 16 ranks the slowest and those around it are drawn.
The whole trace opens in https://ui.perfetto.dev. Exit codes: 0 done, 2 a mistake in what was given.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m engine.explain",
        description="Say where the time of a run went, from its folder or its trace.",
        epilog=_EPILOG,
    )
    parser.add_argument("path", metavar="RUN_OR_TRACE", help="a run's folder, its run.json, or a trace file")
    parser.add_argument("--out", metavar="FILE", help="draw one step of a trace: .png or .svg (extra: plot)")
    add_overwrite(parser)
    parser.add_argument("--step", type=int, metavar="N", help="which step; default: one of median length")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    return parser


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        _explain(options)
    except UserError as error:
        failure.say_error(str(error))
        return 2
    return 0


def _explain(options: argparse.Namespace) -> None:
    if options.step is not None and options.out is None:
        raise UserError("step: says which step to draw; give --out FILE too")
    path = expand(options.path, "path")
    if path.is_dir():
        path /= RESULTS
    trace = None if path.name == RESULTS else read_trace(path)
    breakdown = read_results(path) if trace is None else explain_trace(trace, path)
    lines = breakdown.lines() if trace is None else breakdown.lines() + note(trace)
    terminal.show(json.dumps(breakdown.to_json(), indent=2) if options.json else "\n".join(lines))
    if options.out is None:
        return
    if trace is None:
        raise UserError("out: a picture is drawn from a trace: run with --trace FILE, then explain FILE")
    out = expand(options.out, "out")
    check_place(out, "out", overwrite=options.overwrite)
    from engine.profile.step_picture import draw_step  # noqa: PLC0415 -- matplotlib is an extra

    shown = _shown(len(trace.ranks), breakdown.slowest_rank)
    if len(shown) < len(trace.ranks):
        terminal.say(f"drawn: ranks {shown.start} to {shown.stop - 1}, around the slowest")
    spans = {rank: trace.ranks[rank] for rank in shown}
    draw_step(spans, _one_step(trace, options.step), out)


def _shown(ranks: int, slowest: int) -> range:
    """Return the ranks to draw: all, or as many as one can see, with the slowest in their middle."""
    first = min(max(0, slowest - DRAWN_RANKS // 2), max(0, ranks - DRAWN_RANKS))
    return range(first, min(ranks, first + DRAWN_RANKS))


def read_results(path: Path) -> Breakdown:
    """Return the table of a `run.json`.

    Raises
    ------
    UserError
        It cannot be read or holds no such table.
    """
    with reading(path):
        text = read_bytes(path)
    try:
        table: Any = json.loads(text)["where_the_time_went"]
        return Breakdown.from_json(table)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: does not say where the time went; is it of a finished run?") from error


def explain_trace(trace: Trace, path: Path) -> Breakdown:
    """Return the table that the spans of a trace add up to; `path` names the trace in errors.

    Raises
    ------
    UserError
        There is a rank without a step.
    """
    breakdown = combine([sum_spans(spans) for spans in trace.ranks], trace.communication_alone)
    if breakdown is None:
        raise UserError(f"{path}: holds no whole step of every rank")
    return breakdown


def _one_step(trace: Trace, wanted: int | None) -> Span:
    """Return rank 0's span of the step to draw."""
    steps = steady_steps(trace.ranks[0])
    if wanted is None:
        return sorted(steps, key=lambda step: step.end - step.start)[len(steps) // 2]
    recorded = [span for span in trace.ranks[0] if STEP in span.attributes]
    for span in recorded:
        if span.attributes[STEP] == wanted:
            return span
    numbers = [int(str(span.attributes[STEP])) for span in recorded]
    raise UserError(f"step: got {wanted}; the trace has {min(numbers)} to {max(numbers)}")


if __name__ == "__main__":
    sys.exit(main())
