"""The command ``python -m engine.report``: look at runs, as a page, live, in the terminal or as CSV."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from comm import failure, terminal
from engine.config.command_line import Parser, add_overwrite
from engine.config.errors import MISTAKES, UserError, in_one_line
from engine.config.files import check_replaceable, open_file, reading, write_whole, writing
from engine.config.paths import expand
from engine.host.stop_signals import listening
from engine.report import csv_file, live, page, text, timeline
from engine.report.curves_picture import draw_curves
from engine.report.live import HOST, PORT
from engine.report.run_record import RunRecord, read_runs
from engine.report.timeline import Step
from engine.run.output_place import check_output

DEFAULT_OUT = "report.html"

_EPILOG = """\
examples:
  python -m engine.report runs/digits                       report.html: one page that needs no network
  python -m engine.report runs/a runs/b --out both.html     two runs over one another, by their folders' names
  python -m engine.report small=runs/a large=runs/b         ... by names of your own
  python -m engine.report runs/vgg --trace trace.json       with one step as a timeline (--step N: that one)
  python -m engine.report runs/digits --text                curves in the terminal
  python -m engine.report runs/digits --csv - | head        every step as CSV, also to a file or a folder
  python -m engine.report runs/a runs/b --picture ab.png    loss and test accuracy by epoch, also as .svg
  python -m engine.report --live runs                       pages that follow all runs there, in your browser
  python -m engine.report --live runs/a --host 0.0.0.0      ... from other machines, with the token it prints

A trace named trace.json in a run's folder, or where the run wrote it, is found by itself. A run that goes on
is shown as far as it is. Exit codes: 0 done, 2 a mistake in what was given, 130 interrupted.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        alone=True,
        prog="python -m engine.report",
        description="Show runs: curves, where the time went, predicted beside measured, memory, recipes.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="a run's folder, its run.json, or NAME=FOLDER; with --live also a folder of runs",
    )
    parser.add_argument(
        "--out", metavar="FILE", help=f"the page; default: {DEFAULT_OUT}, without --text, --csv and --picture"
    )
    parser.add_argument("--text", action="store_true", help="draw the curves in the terminal")
    parser.add_argument("--csv", metavar="FILE", help="write all numbers: a file, a folder, or - for stdout")
    parser.add_argument("--picture", metavar="FILE", help="draw the curves: .png or .svg (extra: plot)")
    add_overwrite(parser)
    parser.add_argument(
        "--trace",
        action="append",
        metavar="FILE",
        help="trace of the first run; once more: of the second, ...",
    )
    parser.add_argument(
        "--step", type=int, metavar="N", help="step of the trace; default: one of median length"
    )
    parser.add_argument(
        "--live", action="store_true", help="serve a page that follows the run, or all runs in a folder"
    )
    parser.add_argument(
        "--host",
        metavar="NAME",
        help=f"with --live: where to listen; a token if not {HOST}, the default",
    )
    parser.add_argument(
        "--port", type=int, metavar="N", help=f"with --live: 0 takes a free one; default {PORT}"
    )
    return parser


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        _serve(options) if options.live else _report(_without_serving(options))
    except MISTAKES as error:
        failure.say_error(in_one_line(error))
        return 2
    return 0


def _report(options: argparse.Namespace) -> None:
    asks_for_others = options.text or options.csv is not None or options.picture is not None
    out = DEFAULT_OUT if not asks_for_others and options.out is None else options.out
    if options.text and options.csv == "-":
        raise UserError("csv: - and --text both print to stdout; give --csv a file")
    if out is None and (options.trace or options.step is not None):
        raise UserError("trace: a step is drawn on the page only; give --out FILE too")
    records = read_runs(options.runs)
    target = None if out is None else _checked(expand(out, "out"), "out", page.is_ours)
    if target is not None:
        steps = _steps(records, options.trace or [], options.step)
        _write(target, page.page(records, steps), "out")
        terminal.say(f"report in {target}")
    if options.csv is not None:
        _write_csv(records, options.csv)
    if options.picture is not None:
        _draw(records, expand(options.picture, "picture"), overwrite=options.overwrite)
    if options.text:
        terminal.show("\n".join(text.lines(records, _style())), coloured=True)


def _serve(options: argparse.Namespace) -> None:
    for name in ("out", "text", "csv", "picture", "trace", "step", "overwrite"):
        if getattr(options, name) not in (None, False):
            raise UserError(f"{name}: does not go with --live, which serves pages and writes nothing")
    live.serve(
        options.runs,
        HOST if options.host is None else options.host,
        PORT if options.port is None else options.port,
    )


def _without_serving(options: argparse.Namespace) -> argparse.Namespace:
    for name in ("host", "port"):
        if getattr(options, name) is not None:
            raise UserError(f"{name}: is for --live, which serves pages")
    return options


def _steps(records: Sequence[RunRecord], traces: Sequence[str], wanted: int | None) -> list[Step | None]:
    if len(traces) > len(records):
        raise UserError(f"trace: got {len(traces)} files for {len(records)} runs; at most one for each")
    given = [*traces, *(None for _ in records[len(traces) :])]
    found = [timeline.find_trace(run, each) for run, each in zip(records, given, strict=True)]
    if wanted is not None and not any(found):
        raise UserError("step: there is no trace to draw a step of: run with --trace FILE")
    steps = [None if trace is None else timeline.one_step(trace, wanted) for trace in found]
    for trace, step in zip(traces, steps, strict=False):
        if step is None:
            raise UserError(f"trace: {trace}: holds no whole step")
    return steps


def _write_csv(records: Sequence[RunRecord], given: str) -> None:
    if given == "-":
        for piece in csv_file.table(records):
            terminal.OUTPUT.write(piece.decode())
        terminal.flush()
        return
    path = expand(given, "csv")
    if path.is_dir() or given.endswith(("/", os.sep)):
        taken = dict[str, str]()
        for run in records:
            name = f"{run.name.replace(os.sep, '_')}.csv"
            if taken.setdefault(name, run.name) != run.name:
                raise UserError(f"csv: {taken[name]} and {run.name} would both be {name}; give other names")
        for name, run in zip(taken, records, strict=True):
            _write(_checked(path / name, "csv", _is_table), csv_file.table([run]), "csv")
    else:
        _write(_checked(path, "csv", _is_table), csv_file.table(records), "csv")
    terminal.say(f"numbers in {path}")


def _draw(records: Sequence[RunRecord], path: Path, *, overwrite: bool) -> None:
    check_output(path, "picture", overwrite=overwrite)
    draw_curves(records, path)
    terminal.say(f"curves in {path}")


def _is_table(content: bytes) -> bool:
    return content.startswith(csv_file.BEGIN.encode())


def _checked(path: Path, what: str, is_ours: Callable[[bytes], bool]) -> Path:
    """Return a file to be written; refuse to write over what is not ours.

    Raises
    ------
    UserError
        It is there and was not written by this command, or is no file.
    """
    check_replaceable(path, what)
    if path.exists():
        with reading(path, what), open_file(path) as file:
            begin = file.read(1 << 12)
        if begin and not is_ours(begin):
            raise UserError(f"{what}: {path} is there and no report, and is not written over: give another")
    return path


def _write(path: Path, content: str | Iterable[bytes], what: str) -> None:
    with writing(path, what):
        write_whole(path, content)


def _style() -> text.Style:
    is_terminal = terminal.OUTPUT.isatty()
    width = shutil.get_terminal_size((100, 24)).columns
    try:
        "█▀▄".encode(terminal.OUTPUT.encoding)
        blocks = True
    except (UnicodeEncodeError, LookupError):
        blocks = False
    colours = is_terminal and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")
    return text.Style(width, blocks, colours)


if __name__ == "__main__":
    sys.exit(main())
