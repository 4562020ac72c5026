"""The command ``python -m engine.compare``: whether two networks are the same to the bit."""

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
from engine.host.stop_signals import listening

_EPILOG = """\
examples:
  python -m engine.compare runs/a runs/b                       their newest checkpoints
  python -m engine.compare runs/a runs/a/checkpoints/step-00000044 --json
  python -m engine.compare runs/a exported.safetensors && echo the same network

Weights and state of layers are compared, tensor by tensor; of recipes the fields that differ are listed, and
of two runs the results that do. A .safetensors must say which network it is of; of its recipe nothing else is
compared.

Exit codes: 0 all tensors are the same to the bit; 1 they are not; 2 a mistake in what was given.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        alone=True,
        prog="python -m engine.compare",
        description="Say whether two trained networks are the same to the bit, and what differs.",
        epilog=_EPILOG,
    )
    for name in ("A", "B"):
        parser.add_argument(
            name.lower(),
            metavar=name,
            help="a checkpoint, or its .safetensors; of a run the newest one",
        )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    add_best(parser)
    return parser


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = make_parser().parse_args(arguments)
    from engine.trained.comparison import compare  # noqa: PLC0415 -- after --help

    try:
        found = compare(options.a, options.b, best=options.best)
    except MISTAKES as error:
        failure.say_error(in_one_line(error))
        return 2
    terminal.show(json.dumps(found.to_json(), indent=2, default=str) if options.json else str(found))
    return 0 if found.same_weights else 1


if __name__ == "__main__":
    sys.exit(main())
