"""The commands ``python -m engine.data check``, ``pack``, ``show`` and ``align``: data before training."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from comm import failure, terminal
from engine.config.command_line import Parser
from engine.config.errors import UserError
from engine.config.paths import expand
from engine.data.registry import described
from engine.host.stop_signals import listening

_EPILOG = """\
examples:
  python -m engine.data check images:~/cifar10
  python -m engine.data check ~/cifar10         what lies there: class folders, shards, cifar10 ...
  python -m engine.data pack images:/data/imagenet webdataset:/fast/imagenet --resize 256
  python -m engine.data show images:~/photos sheet.png --size 224 --augment resized_crop,flip,jitter0.4
  python -m engine.data align recordings transcripts.txt aligned

Exit codes: 0 done, and all samples can be used; 2 some cannot, or a mistake in what was given.
"""
_CHECK = "Read every sample once, and list those that cannot be used."
_SHOW = """\
Draw a picture of training samples as the network sees them: a row a sample, first as it is read, then in
the epochs of a run. The same seed draws the same picture, and is that of the run.
"""
_PACK = """\
Copy a data set of images into another format, in the same order: training on it ends with the same bits.

DST is one of
  webdataset:DIR  tar shards: read one after the other, or by position; for disks that are far or slow
  lmdb:DIR        two databases, train_lmdb and test_lmdb, as Caffe has them
  parquet:DIR     tables, as Hugging Face's library has them
  images:DIR      class folders in train/ and test/, to look at (and read class by class)

Images are copied as they are, byte by byte; what is pixels already (cifar10, mnist, arrays) becomes PNG.
With --resize larger images become smaller JPEG files. Labels, and the names of classes, are kept. All that
was written is read back and compared. A pack that was interrupted goes on when it is started again.
"""
_MOST_SHOWN = 1000
_PACK_EPILOG = """\
examples:
  python -m engine.data pack images:~/photos webdataset:~/photos-tar
  python -m engine.data pack cifar10:~/cifar-10-batches-bin images:~/cifar10
  python -m engine.data pack /data/imagenet lmdb:/fast/imagenet --resize 256 --quality 90
"""
_ALIGN = "Label the frames of recordings of speech by their text, for kaldi:OUT."
_ALIGN_EPILOG = """\
example:
  python -m engine.data align recordings transcripts.txt aligned
  python -m engine.train cd_dnn --data kaldi:aligned --model-argument features=440

TEXT has lines of a name and what is said, "NAME TEXT" or "NAME: TEXT"; NAME.wav lies in WAVS, with 16,000 or
8,000 samples a second of English. OUT gets train/, test/ and senones.txt, which says what labels mean.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m engine.data",
        description="Look at data sets before training on them, and convert them.",
        epilog=_EPILOG,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_check(commands)
    _add_pack(commands)
    _add_show(commands)
    _add_align(commands)
    return parser


def _add_check(commands: Any) -> None:
    check = commands.add_parser("check", help="read every sample once", description=_CHECK)
    _add_data(check, "data", "DATA")
    _add_threads(check)
    check.set_defaults(run=_check)


def _add_pack(commands: Any) -> None:
    pack = commands.add_parser(
        "pack",
        help="copy a data set into another format",
        description=_PACK,
        epilog=_PACK_EPILOG,
        alone=True,
    )
    _add_data(pack, "data", "SRC")
    _add_threads(pack)
    pack.add_argument("to", metavar="DST", help="the new format, and a folder that is not there yet")
    pack.add_argument(
        "--resize",
        type=int,
        default=0,
        metavar="N",
        help="pixels of the shorter side, at most; 0: images stay as they are; default 0",
    )
    pack.add_argument(
        "--quality", type=int, default=95, metavar="Q", help="of resized images as JPEG, 1 to 100; default 95"
    )
    pack.set_defaults(run=_pack)


def _add_show(commands: Any) -> None:
    show = commands.add_parser("show", help="draw samples as the network sees them", description=_SHOW)
    _add_data(show, "data", "DATA")
    show.add_argument("to", metavar="PICTURE", help="written: sheet.png")
    show.add_argument(
        "--augment", default="none", metavar="LIST", help="as for training: resized_crop,flip; default none"
    )
    show.add_argument(
        "--size", type=int, default=224, metavar="N", help="pixels of stored images' samples; default 224"
    )
    show.add_argument("--samples", type=int, default=8, metavar="N", help="rows; default 8")
    show.add_argument("--epochs", type=int, default=6, metavar="N", help="columns; default 6")
    show.add_argument("--seed", type=int, default=0, metavar="N", help="of the run; default 0")
    show.set_defaults(run=_show)


def _add_align(commands: Any) -> None:
    align = commands.add_parser(
        "align", help="label recordings of speech by their text", description=_ALIGN, epilog=_ALIGN_EPILOG
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
    align.set_defaults(run=_align)


def _add_data(parser: argparse.ArgumentParser, name: str, shown: str) -> None:
    """Add a data set."""
    parser.add_argument(name, metavar=shown, help=f"a folder; or as for training: {described()}")


def _add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="that read; 0: as many as cores; default 0"
    )


def _threads(options: argparse.Namespace) -> int:
    return options.threads if options.threads > 0 else len(os.sched_getaffinity(0))


def _check(options: argparse.Namespace) -> int:
    from engine.data.check import check_source  # noqa: PLC0415 -- after --help
    from engine.data.sources import open_unfitted, spec_of  # noqa: PLC0415 -- as above

    source = open_unfitted(spec_of(options.data))
    wrong = check_source(source, threads=_threads(options), show=terminal.show, say=terminal.say)
    return 2 if wrong else 0


def _pack(options: argparse.Namespace) -> int:
    from engine.data.packing.pack import pack  # noqa: PLC0415 -- after --help
    from engine.data.packing.samples import Taking  # noqa: PLC0415 -- as above
    from engine.data.sources import open_unfitted, spec_of  # noqa: PLC0415 -- as above

    if options.resize < 0 or not 1 <= options.quality <= 100:
        raise UserError(
            f"pack: got --resize {options.resize} --quality {options.quality}; must be 0 or more, 1 to 100"
        )
    source = open_unfitted(spec_of(options.data))
    taking = Taking(options.resize, options.quality)
    pack(source, options.to, taking=taking, threads=_threads(options), show=terminal.show, say=terminal.say)
    return 0


def _show(options: argparse.Namespace) -> int:
    from engine.data.augment import Augment  # noqa: PLC0415 -- after --help
    from engine.data.contact_sheet import contact_sheet, write_sheet  # noqa: PLC0415 -- as above
    from engine.data.sources import open_unfitted, spec_of  # noqa: PLC0415 -- as above

    for name in ("size", "samples", "epochs"):
        if not 1 <= getattr(options, name) <= _MOST_SHOWN:
            raise UserError(f"{name}: got {getattr(options, name)}; must be from 1 to {_MOST_SHOWN}")
    augment = Augment.parse(options.augment)
    train = open_unfitted(spec_of(options.data), (3, options.size, options.size)).train
    sheet = contact_sheet(train, augment, samples=options.samples, epochs=options.epochs, seed=options.seed)
    write_sheet(expand(options.to, "picture"), sheet)
    terminal.show(f"{options.to}: {sheet.shape[1]} x {sheet.shape[0]} pixels")
    return 0


def _align(options: argparse.Namespace) -> int:
    from engine.data.speech.align import align  # noqa: PLC0415 -- after --help
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


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except UserError as error:
        failure.say_error(str(error))
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
