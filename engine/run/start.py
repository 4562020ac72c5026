"""Where a run starts: with a recipe from the beginning, or with a checkpoint of an earlier run."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.config.errors import UserError
from engine.config.paths import expand, working_folder
from engine.config.recipe import Recipe, override, read_recipe
from engine.run.checkpoint import read_state, saved_recipe
from engine.run.finding import find_checkpoint
from engine.run.history import RATE, changed
from engine.run.kept_checkpoints import FOLDER
from engine.run.resumed_recipe import check_same, placed
from engine.run.run_folder import METRICS, RECIPE
from engine.run.state import State


@dataclass(frozen=True)
class Start:
    """What to train, and from where."""

    recipe: Recipe
    name: str
    """Of the recipe; the default folder is named after it."""
    checkpoint: Path | None = None
    state: State | None = None
    """Of the checkpoint."""
    run: Path | None = None
    """The folder of the run that goes on; None where the run gets a new one."""
    asked: Path | None = None
    """The run or checkpoint to go on from, as the user named it."""
    check_data: bool = False
    """All samples are read before the first step."""
    has_folder: bool = True
    """The run is written down; if not, nothing of it is saved."""
    started_in: str = field(default_factory=working_folder)
    """Where relative paths begin, wherever code of the user's moves this process to later; "" : nowhere."""

    def place(self, path: Path) -> Path:
        """Return a path that leads to the same place from everywhere."""
        return self.started_in / path

    def shown(self, path: Path) -> Path:
        """Return such a path as it is written in the folder of the start."""
        return path.relative_to(self.started_in) if path.is_relative_to(self.started_in) else path


def new_run(name: str, changes: Mapping[str, Any]) -> Start:
    """Start from the beginning: a recipe's name or file, with some fields changed."""
    return Start(override(read_recipe(name), changes), Path(name).stem)


def unwritten(recipe: Recipe) -> Recipe:
    """Return a recipe that computes the same steps, and neither evaluates, nor saves, nor writes anything."""
    return replace(
        recipe,
        evaluate_every=0,
        hash_every=0,
        checkpoint_every=0,
        checkpoint_steps=0,
        keep_best="off",
        stop_after=0,
        out="",
        trace="",
    )


def resumed_run(
    path: str, name: str | None, changes: Mapping[str, Any], *, override_rate: float | None = None
) -> Start:
    """Go on from a checkpoint, or from the newest one of a run's folder.

    The recipe is the one that is named, or that of the run's folder, where a user may have edited it, or else
    the checkpoint's; only what changes no weight may differ from the checkpoint's.

    Parameters
    ----------
    override_rate
        The learning rate from here on, which the run's history keeps; None: as it was.
    """
    if override_rate is not None:
        if RATE in changes:
            raise UserError(f"override_rate: got {override_rate:g} beside {RATE} {changes[RATE]}; give one")
        changes = {**changes, RATE: override_rate}
    asked = expand(path, "resume")
    checkpoint = followed(find_checkpoint(asked))
    state = read_state(checkpoint)
    saved = saved_recipe(checkpoint, state)
    run = checkpoint.parent.parent if checkpoint.parent.name == FOLDER else None
    edited = None if name or run is None else _edited(run)
    base = _with_outputs(read_recipe(name), saved) if name else edited or saved
    base = replace(base, init=base.init or saved.init)  # which is not read again
    overridden = (RATE,) if override_rate is not None else ()
    where = name or (f"{run}/{RECIPE}" if edited else "")
    check_same(saved, base, where=where, overridden=(*overridden, *(changes if name else ())))
    recipe = override(base if name else placed(base, state.started_in, changes), changes)
    check_same(saved, recipe, where="", overridden=overridden)
    if not recipe.out and run is None:
        raise UserError(
            f"resume: {checkpoint} does not lie in a run's {FOLDER}/; give --out DIR, to write there"
        )
    same = not recipe.out or expand(recipe.out, "out").resolve() == run
    if same and run is not None:
        _check_own(run)
    state = changed(state, RATE, saved.schedule.rate, recipe.schedule.rate)
    return Start(
        recipe, name or recipe.model, checkpoint, state, run if same else None, working_folder() / asked
    )


def followed(checkpoint: Path) -> Path:
    """Return where a checkpoint is, in the run as the user named it: whose checkpoints/ may be a link."""
    holder = checkpoint.parent
    if checkpoint.is_symlink() or holder.name != FOLDER:
        return checkpoint.resolve()
    return holder.parent.resolve() / FOLDER / checkpoint.name


def _check_own(run: Path) -> None:
    """Refuse a run whose checkpoints/ is a link to that of another run, which would lose its own."""
    other = (run / FOLDER).resolve().parent
    if other != run and any((other / name).exists() for name in (RECIPE, METRICS)):
        raise UserError(
            f"resume: {run / FOLDER} is a link to that of another run; must be its own: give --out DIR, or "
            f"--resume {other}"
        )


def no_new_rate(override_rate: float | None) -> None:
    """Refuse to override the rate of a run that begins."""
    if override_rate is not None:
        raise UserError(
            f"override_rate: got {override_rate:g} without a run that goes on; give --resume DIR too, or --lr"
        )


def _with_outputs(recipe: Recipe, saved: Recipe) -> Recipe:
    """Return a recipe with the number of outputs that followed the data when the run began."""
    followed = saved.model_arguments.get("classes")
    if followed is None or recipe.model != saved.model or "classes" in recipe.model_arguments:
        return recipe
    return override(recipe, {"model_arguments.classes": followed})


def _edited(run: Path) -> Recipe | None:
    """Return the recipe in a run's folder; None where there is none any more."""
    path = run / RECIPE
    return read_recipe(str(path)) if path.exists() else None
