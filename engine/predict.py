"""The command ``python -m engine.predict``: the classes of images, with their probabilities."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from comm import failure, terminal
from engine.config.command_line import Parser, add_best, add_computing, add_overwrite
from engine.config.errors import MISTAKES, UserError, in_one_line
from engine.config.files import write_whole, writing
from engine.config.paths import expand
from engine.config.wording import counted
from engine.host.stop_signals import listening
from engine.run.output_place import check_output

if TYPE_CHECKING:
    from engine.trained.model import Model
    from engine.trained.prediction import Prediction

_STDIN = "-"
_EPILOG = """\
examples:
  python -m engine.predict runs/cats photo.jpg more/                 folders are searched at any depth
  find photos -name '*.jpg' | python -m engine.predict runs/cats - --csv --out found.csv
  python -m engine.predict runs/digits scans.npy --top 1 --json      an array: uint8 pixels or float32

Images become samples as in the training: upright by EXIF, resized to cover the network's input, cut around
the centre, normalised. An array [N, ...] of the network's input shape works for every network.
--json prints an object a line. A file that cannot be read is a line among the others, {"file", "error"}.

Exit codes: 0 done; 2 a mistake in what was given, or a file that cannot be read; 130 interrupted.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        alone=True,
        prog="python -m engine.predict",
        description="Say which classes a trained network finds in images, and how probable they are.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "path", metavar="CHECKPOINT", help="a checkpoint, or its .safetensors; of a run the newest one"
    )
    parser.add_argument(
        "files",
        metavar="FILE|DIR|-",
        nargs="+",
        help="images, folders of them, .npy files; -: read their names from standard input, one a line",
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="likeliest classes shown; default 5")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="print a JSON object a line")
    forms.add_argument("--csv", action="store_true", help="print a table with commas")
    parser.add_argument(
        "--softmax",
        choices=("on", "off"),
        default="on",
        help="on: probabilities; off: logits, what the network computes; default on",
    )
    parser.add_argument(
        "--on-bad-sample",
        choices=("stop", "skip"),
        default="skip",
        help="that cannot be read: stop there, or go on; default skip, as in Python's Model.predict",
    )
    parser.add_argument("--out", metavar="FILE", help="write to a file, whole or not at all")
    add_best(parser)
    add_overwrite(parser)
    add_computing(parser)
    return parser


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        return 2 if _predict(options) else 0
    except MISTAKES as error:
        advice = "; lower --batch" if isinstance(error, MemoryError) else ""
        failure.say_error(f"{in_one_line(error)}{advice}")
        return 2


def _predict(options: argparse.Namespace) -> int:
    """Print what is found, and return the number of files that could not be read."""
    from engine.trained.loading import load_model  # noqa: PLC0415 -- imports numba: after --help

    if options.top < 1:
        raise UserError(f"top: got {options.top}; must be at least 1")
    _check_files(options.files)
    out = None if options.out is None else expand(options.out, "out")
    if out is not None:
        check_output(out, "out", overwrite=options.overwrite)
    model = load_model(
        options.path,
        best=options.best,
        model=options.model,
        batch=options.batch,
        threads=options.threads,
    )
    if not model.class_names:
        terminal.say("note: the checkpoint names no classes: numbers stand for them")
    lines = _Lines(options, min(options.top, len(model.output_names)), out)
    if out is None:
        for line in lines.of(model):
            terminal.show(line)
    else:
        written = [f"{line}\n".encode() for line in lines.of(model)]
        with writing(out, "out"):
            write_whole(out, written)
        if lines.bad:
            terminal.say(f"{counted(lines.bad, 'file')} could not be read; {out} says which, and why")
    return lines.bad


def _check_files(files: Sequence[str]) -> None:
    if "" in files:
        raise UserError('files: got ""; must be a file, a folder or -')
    if _STDIN in files and sys.stdin is None:
        raise UserError("-: standard input is closed; must name files")


class _Lines:
    """The lines of all files, and how many of those could not be read."""

    def __init__(self, options: argparse.Namespace, top: int, out: Path | None):
        self._options, self._top, self._out = options, top, out
        self._value = "probability" if options.softmax == "on" else "logit"
        self.bad = 0

    def of(self, model: "Model") -> Iterator[str]:
        """Yield the lines, with progress on stderr where they do not show it."""
        from comm.tree import next_power_of_two  # noqa: PLC0415 -- as above
        from engine.run.compiling import compilation_said  # noqa: PLC0415 -- as above
        from engine.trained.prediction import csv_heading  # noqa: PLC0415 -- as above
        from engine.trained.progress import Progress  # noqa: PLC0415 -- as above

        options = self._options
        samples = model.reading.samples_in(_named(options.files))
        if self._out is not None:  # a row of an array is called FILE[row]
            names = {name for each in samples for name in (each.name, each.name.rpartition("[")[0])}
            check_output(self._out, "out", overwrite=options.overwrite, reads=map(Path, names))
        # One image is no batch; sizes that are no power of two would compile kernels of their own.
        model = replace(model, batch=min(model.batch, next_power_of_two(max(1, len(samples)))))
        found = model.predictions(samples, top=self._top, probabilities=options.softmax == "on")
        with Progress(len(samples), bar=options.out is not None or not terminal.OUTPUT.isatty()) as progress:
            say: Callable[[str], None] = progress.say
            if options.csv:
                yield csv_heading(self._top, self._value)
            with compilation_said(say):
                for done, each in enumerate(found, start=1):
                    if each.error:
                        self.bad += 1
                        if options.on_bad_sample == "stop":
                            raise UserError(each.error)
                    yield self._line(each)
                    progress.at(done)

    def _line(self, each: "Prediction") -> str:
        if self._options.json:
            return each.to_json(self._value)
        return each.row(self._top) if self._options.csv else each.line()


def _named(files: Sequence[str]) -> Iterator[Path]:
    """Yield the paths that are given, and in place of "-" those that standard input names."""
    for name in files:
        if name == _STDIN:
            lines = [line.rstrip(b"\r\n") for line in sys.stdin.buffer]
            if not any(lines):
                raise UserError("-: standard input names no file; must have a name on each line")
            yield from (Path(os.fsdecode(line)) for line in lines if line)
        else:
            path = Path(name)
            with suppress(RuntimeError):
                path = path.expanduser()
            yield path


if __name__ == "__main__":
    sys.exit(main())
