"""The command ``python -m engine.train``: train a network, alone or under mpirun or srun."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from comm import failure
from engine.config.command_line import Parser, start_ranks
from engine.config.errors import UserError
from engine.config.recipe import shipped

if TYPE_CHECKING:
    from comm.communicator import Communicator
    from engine.run.launch import MakeCollectives
    from engine.run.start import Start

_OPTIONS: tuple[tuple[str, str, type, str, str], ...] = (
    ("data", "data", str, "DATA", "digits, synthetic, images:DIR, mnist:DIR or cifar10:DIR"),
    ("augment", "augment", str, "LIST", "none, flip, crop<N>, or several with commas"),
    ("batch", "batch", int, "N", "global minibatch, over all ranks"),
    (
        "leaves",
        "leaves",
        int,
        "N",
        "units of the reproducible sum: a power of two that divides the minibatch",
    ),
    ("epochs", "epochs", int, "N", "passes over the training set"),
    ("steps", "steps", int, "N", "minibatches, instead of epochs"),
    ("lr", "schedule.rate", float, "RATE", "learning rate, at its highest"),
    ("momentum", "optimizer.momentum", float, "M", "momentum of SGD"),
    ("weight-decay", "optimizer.weight_decay", float, "W", "L2 weight decay"),
    ("seed", "seed", int, "N", "of weights, order and augmentation"),
    (
        "plan",
        "plan",
        str,
        "PLAN",
        "data: all weights on every rank; fc6=2,fc7=2: pairs share these layers; auto",
    ),
    ("cluster", "cluster", str, "NAME_OR_FILE", "for --plan auto: see python -m engine.plan --help"),
    ("bucket-kib", "bucket_kib", int, "N", "small layers share a message of at most so much; default 256"),
    ("chunk-kib", "chunk_kib", int, "N", "messages are cut into pieces of so much; default 1024"),
    ("conv", "conv", str, "NAME", "auto: Winograd convolution where it gains; direct: never"),
    (
        "conv-feature-leaves",
        "conv_feature_leaves",
        int,
        "N",
        "parts into which a plan may split a convolution: a power of two; part of the bits",
    ),
    (
        "threads",
        "threads",
        int,
        "N",
        "kernel threads of each rank; 0: its fair share of the cores, but one of more than 8 is left",
    ),
    ("evaluate-every", "evaluate_every", int, "N", "epochs between evaluations; 0: at the end only"),
    ("checkpoint-every", "checkpoint_every", int, "N", "epochs between checkpoints; 0: none"),
    ("checkpoint-steps", "checkpoint_steps", int, "N", "steps between checkpoints, besides; 0: none"),
    ("out", "out", str, "DIR", "folder of the run; default runs/<recipe>-<time>"),
    (
        "trace",
        "trace",
        str,
        "FILE",
        "write when each rank computed, sent, waited and read; for ui.perfetto.dev, engine.explain",
    ),
)
"""Option, field of the recipe that it overrides, type, metavar, help."""

_SWITCHES = (
    ("overlap", "communicate beside the backward pass, or after each layer"),
    (
        "shared-memory",
        "ranks of one host read each other's gradients and weights, or send them; the bits are the same",
    ),
    ("fuse", "convolution, ReLU and pooling in one pass over memory; the bits are the same"),
)
"""Option and field of the recipe, help."""

_EPILOG = """\
examples:
  python -m engine.train                                   the digits recipe, one rank
  mpirun -n 2 python -m engine.train                       the same weights, to the bit, from two
  mpirun -n 4 python -m engine.train cifar10 --data images:~/cifar10
  srun -n 16 python -m engine.train vgg_a --data images:/data/imagenet --out runs/vgg
  python -m engine.train my.toml --steps 100 --lr 0.02     a recipe of your own
  mpirun -n 3 python -m engine.train --resume runs/vgg     go on where it stopped, on any number of ranks
  mpirun -n 2 python -m engine.train --steps 20 --trace trace.json    then python -m engine.explain trace.json

The run's folder holds recipe.toml (the whole run, resolved), metrics.jsonl (a line per step and epoch),
run.json (the results) and checkpoints/. Exit codes: 0 done, 2 a mistake in what was given, 130 interrupted
(with a checkpoint), 1 anything else.
"""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m engine.train",
        description="Train a network by synchronous SGD. The weights are the same, bit for bit, on any "
        "number of ranks and threads.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE",
        help=f"a shipped recipe ({', '.join(shipped())}) or a TOML file; default digits",
    )
    for name, _, kind, metavar, help_text in _OPTIONS:
        parser.add_argument(f"--{name}", type=kind, metavar=metavar, help=help_text)
    for name, help_text in _SWITCHES:
        parser.add_argument(f"--{name}", choices=("on", "off"), help=help_text)
    parser.add_argument(
        "--resume", metavar="DIR", help="go on from a run's newest checkpoint, or from this one"
    )
    return parser


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = vars(options)
    changes = {path: given[name.replace("-", "_")] for name, path, *_ in _OPTIONS}
    for name in (switch.replace("-", "_") for switch, _ in _SWITCHES):
        changes[name] = None if given[name] is None else given[name] == "on"
    changes = {path: value for path, value in changes.items() if value is not None}
    if options.epochs is not None and options.steps is None:
        changes["steps"] = 0
    if options.steps is not None and options.epochs is None:
        changes["epochs"] = 0
    return changes


def main(arguments: Sequence[str] | None = None, *, collectives: "MakeCollectives | None" = None) -> int:
    """Run the command; return the exit code.

    Benchmarks put other collectives in place of the engine's.
    """
    try:
        options = _parser().parse_args(arguments)
        world = start_ranks()
    except KeyboardInterrupt:  # later ones are answered by what `start_ranks` has installed
        failure.say_interrupted()
        return failure.INTERRUPTED
    return 2 if world is None else _train(world, options, collectives)


def _train(world: "Communicator", options: argparse.Namespace, collectives: "MakeCollectives | None") -> int:
    from engine.run import launch  # noqa: PLC0415 -- imports numba: only where it is needed

    try:
        results = launch.run(world, lambda: _resolve(options), collectives=collectives)
    except UserError as error:
        if world.rank == 0:
            failure.say_error(str(error))
        return 2
    return failure.INTERRUPTED if results["interrupted"] else 0


def _resolve(options: argparse.Namespace) -> "Start":
    from engine.run.start import new_run, resumed_run  # noqa: PLC0415 -- as above

    changes = _overrides(options)
    if options.resume is None:
        return new_run(options.recipe or "digits", changes)
    return resumed_run(options.resume, options.recipe, changes)


if __name__ == "__main__":
    sys.exit(main())
