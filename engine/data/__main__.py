"""The commands ``python -m engine.data check`` and ``align``: what comes before training."""

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

_CHECK_EPILOG = """\
examples:
  python -m engine.data check images:~/cifar10
  python -m engine.data check ~/cifar10         what lies there: class folders, or files of cifar10 or mnist

Exit codes: 0 all samples can be used, 2 some cannot, or a mistake in what was given.
"""
_ALIGN_EPILOG = """\
example:
  python -m engine.data align recordings transcripts.txt aligned
  python -m engine.train cd_dnn --data kaldi:aligned --model-argument features=440

TEXT has lines of a name and what is said, "NAME TEXT" or "NAME: TEXT"; NAME.wav lies in WAVS, with 16,000 or
8,000 samples a second of English. OUT gets train/, test/ and senones.txt, which says what labels mean.
"""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m engine.data", description="Check data, or make labels for it.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check = commands.add_parser(
        "check",
        help="read every sample once, and list those that cannot be used",
        description="Read every sample once, and list those that cannot be used.",
        epilog=_CHECK_EPILOG,
    )
    check.add_argument("data", metavar="DATA", help=f"a folder; or as for training: {described()}")
    check.add_argument(
        "--threads", type=int, default=0, metavar="N", help="that read; 0: as many as cores; default 0"
    )
    align = commands.add_parser(
        "align",
        help="label the frames of recordings of speech by their text",
        description="Label the frames of recordings of speech by their text, for kaldi:OUT.",
        epilog=_ALIGN_EPILOG,
    )
    align.add_argument("wavs", metavar="WAVS", help="the folder of the recordings")
    align.add_argument("text", metavar="TEXT", help="the file of what is said in them")
    align.add_argument("out", metavar="OUT", help="the folder to write, which must be a new one")
    align.add_argument(
        "--test-every",
        type=int,
        default=10,
        metavar="N",
        help="every Nth utterance is for testing; default 10",
    )
    return parser


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _check(options) if options.command == "check" else _align(options)
    except UserError as error:
        failure.say_error(str(error))
        return 2


def _check(options: argparse.Namespace) -> int:
    from engine.data.check import check_source  # noqa: PLC0415 -- after --help
    from engine.data.sources import open_unfitted, spec_of  # noqa: PLC0415 -- as above

    source = open_unfitted(spec_of(options.data))
    threads = options.threads if options.threads > 0 else len(os.sched_getaffinity(0))
    return 2 if check_source(source, threads=threads, show=terminal.show, say=terminal.say) else 0


def _align(options: argparse.Namespace) -> int:
    from engine.config.paths import expand  # noqa: PLC0415 -- after --help
    from engine.data.speech.align import align  # noqa: PLC0415 -- as above
    from engine.data.speech.senones import Pocketsphinx  # noqa: PLC0415 -- as above
    from engine.data.speech.transcripts import read_transcripts  # noqa: PLC0415 -- as above

    if options.test_every < 2:
        raise UserError(f"test-every: got {options.test_every}; must be at least 2")
    align(
        expand(options.wavs, "wavs"),
        read_transcripts(expand(options.text, "text")),
        expand(options.out, "out"),
        Pocketsphinx(),
        test_every=options.test_every,
        say=terminal.show,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
