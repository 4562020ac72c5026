"""The command ``python -m engine.data check``: read all samples of a data set before training does."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import argparse
import os
import sys
from collections.abc import Sequence

from comm import failure, terminal
from engine.config.command_line import Parser
from engine.config.errors import UserError
from engine.data.registry import described
from engine.host.stop_signals import listening

_EPILOG = """\
examples:
  python -m engine.data check images:~/cifar10
  python -m engine.data check ~/cifar10         what lies there: class folders, or files of cifar10 or mnist

Exit codes: 0 all samples can be used, 2 some cannot, or a mistake in what was given.
"""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m engine.data",
        description="Read every sample once, and list those that cannot be used.",
        epilog=_EPILOG,
    )
    parser.add_argument("command", choices=("check",), help="what to do")
    parser.add_argument("data", metavar="DATA", help=f"a folder; or as for training: {described()}")
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="that read; 0: as many as cores; default 0"
    )
    return parser


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parser().parse_args(arguments)
    from engine.data.check import check_source  # noqa: PLC0415 -- after --help
    from engine.data.sources import open_unfitted, spec_of  # noqa: PLC0415 -- as above

    try:
        source = open_unfitted(spec_of(options.data))
        threads = options.threads if options.threads > 0 else len(os.sched_getaffinity(0))
        wrong = check_source(source, threads=threads, show=terminal.show, say=terminal.say)
    except UserError as error:
        failure.say_error(str(error))
        return 2
    return 2 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
