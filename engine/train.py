"""The command ``python -m engine.train``: train a network, alone or under mpirun or srun."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.recipe import Recipe, override, parse_recipe, read_recipe, shipped

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
    ("plan", "plan", str, "PLAN", "data: every rank has all weights and a part of the minibatch"),
    ("threads", "threads", int, "N", "kernel threads of each rank; 0: its fair share of the cores"),
    ("evaluate-every", "evaluate_every", int, "N", "epochs between evaluations; 0: at the end only"),
    ("checkpoint-every", "checkpoint_every", int, "N", "epochs between checkpoints; 0: none"),
    ("checkpoint-steps", "checkpoint_steps", int, "N", "steps between checkpoints, besides; 0: none"),
    ("out", "out", str, "DIR", "folder of the run; default runs/<recipe>-<time>"),
)
"""Option, field of the recipe that it overrides, type, metavar, help."""

_EPILOG = """\
examples:
  python -m engine.train                                   the digits recipe, one rank
  mpirun -n 2 python -m engine.train                       the same weights, to the bit, from two
  mpirun -n 4 python -m engine.train cifar10 --data images:~/cifar10
  srun -n 16 python -m engine.train vgg_a --data images:/data/imagenet --out runs/vgg
  python -m engine.train my.toml --steps 100 --lr 0.02     a recipe of your own
  mpirun -n 3 python -m engine.train --resume runs/vgg     go on where it stopped, on any number of ranks

The run's folder holds recipe.toml (the whole run, resolved), metrics.jsonl (a line per step and epoch),
run.json (the results) and checkpoints/. Exit codes: 0 done, 2 a mistake in what was given, 130 interrupted
(with a checkpoint), 1 anything else.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engine.train",
        description="Train a network by synchronous SGD. The weights are the same, bit for bit, on any "
        "number of ranks and threads.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE",
        help=f"a shipped recipe ({', '.join(shipped())}) or a TOML file; default digits",
    )
    for name, _, kind, metavar, help_text in _OPTIONS:
        parser.add_argument(f"--{name}", type=kind, metavar=metavar, help=help_text)
    parser.add_argument(
        "--overlap", choices=("on", "off"), help="communicate beside the backward pass, or after each layer"
    )
    parser.add_argument(
        "--resume", type=Path, metavar="DIR", help="go on from a run's newest checkpoint, or from this one"
    )
    return parser


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = vars(options)
    changes = {path: given[name.replace("-", "_")] for name, path, *_ in _OPTIONS}
    changes["overlap"] = None if options.overlap is None else options.overlap == "on"
    changes = {path: value for path, value in changes.items() if value is not None}
    if options.epochs is not None and options.steps is None:
        changes["steps"] = 0
    if options.steps is not None and options.epochs is None:
        changes["epochs"] = 0
    return changes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parser().parse_args(arguments)
    from comm import failure, mpi  # noqa: PLC0415 -- after --help, which must work without MPI

    try:
        world = mpi.world()
    except mpi.LaunchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failure.install(world)
    from engine import launch  # noqa: PLC0415 -- imports numba: only where it is needed

    try:
        results = launch.run(world, lambda: _resolve(options))
    except UserError as error:
        if world.rank == 0:
            print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    return failure.INTERRUPTED if results["interrupted"] else 0


def _resolve(options: argparse.Namespace) -> tuple[Recipe, Path | None]:
    """Return the recipe, and the checkpoint to go on from."""
    changes = _overrides(options)
    if options.resume is None:
        name = options.recipe or "digits"
        recipe = override(read_recipe(name), changes)
        return _with_folder(recipe, Path(name).stem), None
    from engine.checkpoint import find_checkpoint, read_state  # noqa: PLC0415 -- only for --resume

    checkpoint = find_checkpoint(options.resume.expanduser())
    saved = parse_recipe(read_state(checkpoint).recipe, str(checkpoint))
    recipe = override(read_recipe(options.recipe) if options.recipe else saved, changes)
    _check_same(saved, recipe)
    run = checkpoint.parent.parent
    return override(recipe, {"out": changes.get("out", str(run))}), checkpoint


def _check_same(saved: Recipe, recipe: Recipe) -> None:
    """Refuse to go on with a recipe that would have given other weights; more epochs or steps are allowed."""
    for name in vars(saved):
        was, now = getattr(saved, name), getattr(recipe, name)
        if was != now and name not in (*Recipe.NOT_IN_THE_BITS, "epochs", "steps", "data"):
            raise UserError(
                f"resume: {name} was {was} in the checkpoint's run and is {now} now; must be the same"
            )


def _with_folder(recipe: Recipe, name: str) -> Recipe:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return recipe if recipe.out else override(recipe, {"out": f"runs/{name}-{stamp}"})


if __name__ == "__main__":
    sys.exit(main())
