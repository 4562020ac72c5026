"""The command ``python -m engine.evaluate``: how good a trained network is, alone or under mpirun or srun."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from comm import failure, terminal
from engine.config.command_line import Parser, add_best, add_computing, add_overwrite
from engine.config.errors import UserError
from engine.config.paths import expand
from engine.data.registry import described
from engine.host.ranks import start_together
from engine.host.stop_signals import listening

if TYPE_CHECKING:
    from comm.communicator import Communicator
    from engine.trained.evaluation import Evaluation
    from engine.trained.model import Model

_EPILOG = """\
examples:
  python -m engine.evaluate runs/digits                              the test samples that it was trained with
  python -m engine.evaluate runs/cats --data photos/new --tta mirror
  mpirun -n 4 python -m engine.evaluate runs/vgg --data images:/data/imagenet --json > figures.json

The figures are the same, to the bit, for any number of ranks and threads and any --batch. The classes of the
data are matched to those of the network by name, in whatever order they are and if there are only some of
them; a class that the network does not know is refused. Where either has no names, label i is output i.
--tta mirror: each image is seen twice, once left to right, and its probabilities are the mean of both.
--tta mirror+shift: from both sides, as it is and moved by a pixel to the top left and to the bottom right
with reflected edges, these two with half the weight.

Exit codes: 0 done; 2 a mistake in what was given, or a sample that cannot be read (with --on-bad-sample skip:
after the figures of the others); 130 interrupted.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m engine.evaluate",
        description="Say how good a trained network is on a data set: loss, top-1, top-5, each class, and\n"
        "what is taken for what.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "path", metavar="CHECKPOINT_OR_RUN", help="a checkpoint, or its .safetensors; of a run the newest one"
    )
    parser.add_argument(
        "--data", metavar="DATA", help=f"a folder; or as for training: {described()}; default: its own"
    )
    parser.add_argument(
        "--split", choices=("train", "test"), default="", help="default: test, where there is one"
    )
    parser.add_argument(
        "--tta", choices=("mirror", "mirror+shift"), default="", help="see each image several times"
    )
    parser.add_argument(
        "--on-bad-sample", choices=("stop", "skip"), default="stop", help="that cannot be read; default stop"
    )
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    parser.add_argument(
        "--picture", metavar="FILE", help="draw the confusion matrix: .png or .svg (extra: plot)"
    )
    add_best(parser)
    add_overwrite(parser)
    add_computing(parser)
    return parser


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = make_parser().parse_args(arguments)
    world = start_together()
    if world is None:
        return 2
    try:
        found = _evaluate(world, options)
    except (UserError, MemoryError) as error:
        from engine.run.failures import in_words  # noqa: PLC0415 -- after --help

        if world.rank == 0:
            failure.say_error(in_words(error) or str(error))
        return 2
    return 2 if found.skipped else 0


def _evaluate(world: "Communicator", options: argparse.Namespace) -> "Evaluation":
    from engine.run.agreement import agreed  # noqa: PLC0415 -- imports numba: after --help

    picture = agreed(world, lambda: _picture(options) if world.rank == 0 else None)
    model = agreed(world, lambda: _load(world, options))
    found = _with_progress(world, model, options)
    if world.rank == 0:
        _show(found, as_json=options.json)
    agreed(world, lambda: _draw(found, picture) if world.rank == 0 else None)
    return found


def _picture(options: argparse.Namespace) -> Path | None:
    """Return the file of the picture, which can be drawn and written."""
    if options.picture is None:
        return None
    from engine.profile.figure import figure_class  # noqa: PLC0415 -- after --help
    from engine.run.output_place import check_output  # noqa: PLC0415

    path = expand(options.picture, "picture")
    figure_class(path, what="picture")
    # a folder of images holds no picture of a matrix
    folder = (options.data or "").removeprefix("images:")
    inside = bool(folder) and path.resolve().is_relative_to(Path(folder).expanduser().resolve())
    check_output(path, "picture", overwrite=options.overwrite, reads=[path] if inside else [])
    return path


def _load(world: "Communicator", options: argparse.Namespace) -> "Model":
    from engine.trained.loading import load_model  # noqa: PLC0415 -- as above

    return load_model(
        options.path,
        best=options.best,
        model=options.model,
        batch=options.batch,
        threads=options.threads,
        world=world,
        say=terminal.say if world.rank == 0 else lambda _: None,
    )


def _with_progress(world: "Communicator", model: "Model", options: argparse.Namespace) -> "Evaluation":
    from engine.run.compiling import compilation_said  # noqa: PLC0415 -- as above
    from engine.trained.progress import Progress  # noqa: PLC0415 -- as above

    with Progress(shown=world.rank == 0) as progress:
        say: Callable[[str], None] = progress.say
        with compilation_said(say):
            return model.evaluate(
                options.data,
                split=options.split,
                tta=options.tta,
                on_bad_sample=options.on_bad_sample,
                world=world,
                tell=progress.at,
            )


def _show(found: "Evaluation", *, as_json: bool) -> None:
    for error in found.skipped:
        terminal.say(f"skipped: {error}")
    terminal.show(json.dumps(found.to_json(), indent=None) if as_json else "\n".join(found.lines()))


def _draw(found: "Evaluation", path: Path | None) -> None:
    if path is not None:
        from engine.trained.confusion_picture import draw_confusion  # noqa: PLC0415 -- an extra

        draw_confusion(found, path)


if __name__ == "__main__":
    sys.exit(main())
