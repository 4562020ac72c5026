"""The command ``python -m engine.show``: what a checkpoint, or a run with its checkpoints, is."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import argparse
import json
import sys
from collections.abc import Sequence

from comm import failure, terminal
from engine.config.command_line import Parser, add_best
from engine.config.errors import MISTAKES, in_one_line
from engine.config.paths import expand
from engine.host.stop_signals import listening

_EPILOG = """\
examples:
  python -m engine.show runs/digits                                   its checkpoints, and the newest of them
  python -m engine.show runs/digits/checkpoints/step-00000660 --json

Nothing is computed. What checkpoints of earlier versions do not say is called so.
Exit codes: 0 done, 2 a mistake in what was given, or a checkpoint that is damaged.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        alone=True,
        prog="python -m engine.show",
        description="Say what a checkpoint is: network, classes, preprocessing, tensors, hashes.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "path", metavar="CHECKPOINT_OR_RUN", help="a checkpoint, or its .safetensors, or a run's folder"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    add_best(parser)
    return parser


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = make_parser().parse_args(arguments)
    from engine.trained.described import describe  # noqa: PLC0415 -- after --help

    try:
        found = describe(expand(options.path, "checkpoint"), best=options.best)
    except MISTAKES as error:
        failure.say_error(in_one_line(error))
        return 2
    terminal.show(
        json.dumps(found.to_json(), indent=2, default=str) if options.json else "\n".join(found.lines())
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
