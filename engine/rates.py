"""The command ``python -m engine.rates``: find a learning rate, alone or under mpirun or srun."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from comm import failure, terminal
from engine.config.command_line import Parser, add_overwrite
from engine.config.errors import UserError
from engine.config.files import write_whole, writing
from engine.config.options import add_options, given_options, read_number
from engine.config.paths import expand
from engine.config.recipe import FILES, HEADINGS, Recipe, ScheduleFields, shipped
from engine.config.settings import all_settings
from engine.data.registry import described
from engine.host.ranks import start_together
from engine.host.stop_signals import listening
from engine.host.uncollected import uncollected

if TYPE_CHECKING:
    from comm.communicator import Communicator
    from engine.run.rate_curve import RateCurve
    from engine.run.start import Start

_TABLES = (".csv", ".jsonl")
_FROM, _TO, _STEPS = 1e-5, 10.0, 100

_EPILOG = """\
examples:
  python -m engine.rates                                                the digits recipe
  python -m engine.rates cifar10 --data images:~/cifar10 --picture rates.png --out rates.csv
  mpirun -n 2 python -m engine.rates my.toml --from 1e-6 --to 1         the same figures, to the bit

The range test of Smith 2017: a run from the recipe's beginning, in which the learning rate rises by equal
factors from step to step. It ends when the smoothed loss is more than 4 times its lowest value, or not
finite: so it should. Suggested is a tenth of the rate of the lowest smoothed loss, as the highest rate of a
schedule; where the loss falls fastest is said too. All fields of the recipe count but its schedule and its
length. Nothing is evaluated or saved, and no run's folder is made.

Exit codes: 0 done; 130 interrupted, with the files of the steps that were done; 2 a mistake in what was
given, or what ended the test (a damaged image).
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m engine.rates",
        usage="python -m engine.rates [RECIPE] [--from RATE] [--to RATE] [--steps N] [OPTION ...]",
        description="Find a learning rate: let it rise step by step until the loss diverges.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE",
        default="digits",
        help=f"a shipped recipe ({', '.join(shipped())}) or a TOML file; default digits",
    )
    test = parser.add_argument_group("the test")
    test.add_argument(
        "--from", dest="lowest", type=read_number, default=_FROM, metavar="RATE", help="default 1e-5"
    )
    test.add_argument(
        "--to", dest="highest", type=read_number, default=_TO, metavar="RATE", help="default 10"
    )
    test.add_argument(
        "--steps", type=int, default=_STEPS, metavar="N", help=f"if it does not end before; default {_STEPS}"
    )
    test.add_argument(
        "--out", metavar="FILE", help="write rate, loss and smoothed loss of each step: .csv or .jsonl"
    )
    test.add_argument("--picture", metavar="FILE", help="draw them: .png or .svg (extra: plot)")
    add_overwrite(parser)
    test.add_argument("--json", action="store_true", help="print the suggestion and its reasons as JSON")
    add_options(parser, Recipe, HEADINGS, more={"data": described()}, without=_without())
    return parser


def _without() -> set[str]:
    """Return the fields of a recipe that mean nothing here: its course, its length, what it saves."""
    course = {f"schedule.{each.name}" for each in fields(ScheduleFields)} - {"schedule.rates"}
    saved = {each.path for each in all_settings(Recipe) if each.setting.group == FILES}
    return course | saved | {"epochs", "steps", "evaluate_every", "stop_after"}


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = make_parser().parse_args(arguments)
    with uncollected():
        world = start_together()
    if world is None:
        return 2
    try:
        return _test(world, options)
    except UserError as error:
        if world.rank == 0:
            failure.say_error(str(error))
        return 2


def _test(world: "Communicator", options: argparse.Namespace) -> int:
    with uncollected():
        from engine.run.agreement import agreed  # noqa: PLC0415 -- imports numba: only where it is needed
        from engine.run.range_test import range_test  # noqa: PLC0415 -- as above
    writes = world.rank == 0
    table, picture = agreed(world, lambda: _places(options) if writes else (None, None))
    curve, is_interrupted = range_test(world, lambda: _resolve(options))
    if writes and not is_interrupted:  # before the files: a full disk does not take it away
        terminal.show(json.dumps(curve.to_json()) if options.json else "\n".join(curve.lines()))
    agreed(world, lambda: _write(curve, options, table, picture) if writes else None)
    if is_interrupted:
        if writes:
            failure.say_interrupted()
        return failure.INTERRUPTED
    return 0


def _resolve(options: argparse.Namespace) -> "Start":
    from engine.run.range_test import rising  # noqa: PLC0415 -- imports numba: only where it is needed
    from engine.run.start import new_run  # noqa: PLC0415 -- as above

    start = new_run(options.recipe, given_options(Recipe, options))
    return replace(start, recipe=rising(start.recipe, options.lowest, options.highest, options.steps))


def _places(options: argparse.Namespace) -> tuple[Path | None, Path | None]:
    """Return the files of the table and of the picture, which can be written."""
    from engine.profile.figure import figure_class  # noqa: PLC0415 -- after --help
    from engine.run.output_place import check_output  # noqa: PLC0415 -- as above

    table, picture = (
        None if given is None else expand(given, name)
        for given, name in ((options.out, "out"), (options.picture, "picture"))
    )
    if table is not None and table.suffix not in _TABLES:
        raise UserError(f"out: got {table}; must end in {' or '.join(_TABLES)}")
    if picture is not None:
        figure_class(picture, what="picture")
    for path, name in ((table, "out"), (picture, "picture")):
        if path is not None:
            check_output(path, name, overwrite=options.overwrite, reads=[Path(options.recipe)])
    return table, picture


def _write(curve: "RateCurve", options: argparse.Namespace, table: Path | None, picture: Path | None) -> None:
    if table is not None:
        with writing(table, "out"):
            write_whole(table, curve.table(as_csv=table.suffix == ".csv"))
    if picture is not None and curve.points:
        from engine.run.rate_picture import draw_rates  # noqa: PLC0415 -- an extra

        draw_rates(curve, f"learning-rate range test of {options.recipe}", picture)


if __name__ == "__main__":
    sys.exit(main())
