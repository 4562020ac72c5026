"""The command ``python -m engine.train``: train a network, alone or under mpirun or srun."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from comm import failure
from engine.config.command_line import Parser
from engine.config.errors import UserError
from engine.config.options import add_options, given_options, read_number
from engine.config.recipe import DATA, FILES, HEADINGS, SCHEDULE, Recipe, shipped
from engine.data.registry import described
from engine.host.ranks import start_together
from engine.host.stop_signals import listening
from engine.host.uncollected import uncollected

if TYPE_CHECKING:
    from comm.communicator import Communicator
    from engine.run.building import MakeCollectives
    from engine.run.start import Start

_EPILOG = """\
examples:
  python -m engine.train                                   the digits recipe, one rank
  python -m engine.run -n 2                                the same weights, to the bit, from two
  mpirun -n 2 python -m engine.train                       the same, started by hand
  mpirun -n 4 python -m engine.train cifar10 --data images:~/cifar10
  srun -n 16 python -m engine.train vgg_a --data images:/data/imagenet --out runs/vgg
  python -m engine.train my.toml --steps 100 --lr 0.02     a recipe of your own
  mpirun -n 3 python -m engine.train --resume runs/vgg     go on where it stopped, on any number of ranks
  python -m engine.train cifar10 --data images:photos --init runs/cifar10 --freeze 'conv*'    other classes
  mpirun -n 2 python -m engine.train --steps 20 --trace trace.json    then python -m engine.explain trace.json

The run's folder holds recipe.toml (the whole run, resolved), metrics.jsonl (a line per step and epoch),
run.json (the results) and checkpoints/. Exit codes: 0 done; 130 interrupted, with a checkpoint; 2 a mistake
in what was given, or what ended the run later (a damaged image, a full disk, a loss that is not finite): the
error says whether what was done is saved; 1 anything else.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m engine.train",
        usage="python -m engine.train [RECIPE] [OPTION ...]",
        description="Train a network by synchronous SGD. The weights are the same, bit for bit, on any "
        "number of ranks and threads.\n\nEach option stands for a field of the recipe, which it changes for "
        "this run (in brackets where\nits name is another one); a default holds where neither says anything.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE",
        help=f"a shipped recipe ({', '.join(shipped())}) or a TOML file; default digits",
    )
    groups = add_options(parser, Recipe, HEADINGS, more={"data": described()})
    groups[FILES].add_argument(
        "--resume", metavar="DIR", help="go on from a run's newest checkpoint, or from this one"
    )
    groups[SCHEDULE].add_argument(
        "--override-rate",
        type=read_number,
        metavar="RATE",
        help="with --resume: another learning rate from there on, which the run's history keeps",
    )
    groups[DATA].add_argument(
        "--check-data", action="store_true", help="read every sample of the data once, before the first step"
    )
    return parser


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    """Return the recipe's fields that options change; epochs alone replace steps, and steps epochs."""
    changes = given_options(Recipe, options)
    if "epochs" in changes and "steps" not in changes:
        changes["steps"] = 0
    if "steps" in changes and "epochs" not in changes:
        changes["epochs"] = 0
    return changes


@listening()
def main(arguments: Sequence[str] | None = None, *, collectives: "MakeCollectives | None" = None) -> int:
    """Run the command; return the exit code.

    Benchmarks put other collectives in place of the engine's.
    """
    options = make_parser().parse_args(arguments)
    with uncollected():
        world = start_together()
    if world is None:
        return 2
    return _train(world, options, collectives)


def start_of(arguments: Sequence[str]) -> "Start":
    """Return what a command with these arguments would train, and from where, as the launcher must know.

    Raises
    ------
    UserError
        There is no such recipe, or no such checkpoint.
    """
    return _resolve(make_parser().parse_args(arguments))


def _train(world: "Communicator", options: argparse.Namespace, collectives: "MakeCollectives | None") -> int:
    with uncollected():
        from engine.run import launch, survival  # noqa: PLC0415 -- imports numba: only where it is needed

    left = survival.Survival(world)
    try:
        results = launch.run(world, lambda: _resolve(options), collectives=collectives, survival=left)
    except UserError as error:
        if left.world.rank == 0:
            failure.say_error(str(error))
        return left.ended(2)
    return left.ended(failure.INTERRUPTED if results["interrupted"] else 0)


def _resolve(options: argparse.Namespace) -> "Start":
    from engine.run.start import new_run, no_new_rate, resumed_run  # noqa: PLC0415 -- as above

    changes = _overrides(options)
    if options.resume is None:
        no_new_rate(options.override_rate)
        start = new_run(options.recipe or "digits", changes)
    else:
        start = resumed_run(options.resume, options.recipe, changes, override_rate=options.override_rate)
    return replace(start, check_data=options.check_data)


if __name__ == "__main__":
    sys.exit(main())
