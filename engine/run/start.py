"""Where a run starts: with a recipe from the beginning, or with a checkpoint of an earlier run."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.config.errors import UserError
from engine.config.paths import expand, working_folder
from engine.config.recipe import Recipe, override, read_recipe
from engine.run.checkpoint import read_state, read_whole, saved_recipe
from engine.run.finding import find_checkpoint
from engine.run.history import RATE, changed
from engine.run.kept_checkpoints import FOLDER, checkpoints_of, step_of
from engine.run.resumed_recipe import check_same, placed
from engine.run.run_folder import METRICS, RECIPE, RESULTS
from engine.run.state import PerhapsWholeError, State
from engine.run.whole import offering_another


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
    found: Path | None = None
    """The checkpoint that this was when it was looked for; newer than `checkpoint` where it is damaged."""
    warnings: tuple[str, ...] = ()
    """What the user is warned of."""
    check_data: bool = False
    """All samples are read before the first step."""
    has_folder: bool = True
    """The run is written down; if not, nothing of it is saved."""
    started_in: str = field(default_factory=working_folder)
    """Where relative paths begin, wherever code of the user's moves this process to later; "" : nowhere."""

    @property
    def lacks_results(self) -> bool:
        """Whether a run that goes on was killed before it could write its results, which it then does."""
        return self.run is not None and not (self.run / RESULTS).exists()

    def place(self, path: Path) -> Path:
        """Return a path that leads to the same place from everywhere."""
        return self.started_in / path

    def shown(self, path: Path) -> Path:
        """Return such a path as it is written in the folder of the start."""
        return path.relative_to(self.started_in) if path.is_relative_to(self.started_in) else path


def new_run(name: str, changes: Mapping[str, Any]) -> Start:
    """Start from the beginning: a recipe's name or file, with some fields changed."""
    return Start(override(read_recipe(name), changes), Path(name).stem)


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
    found = followed(find_checkpoint(asked))
    checkpoint, warnings = newest_whole(asked, found)
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
        recipe,
        name or recipe.model,
        checkpoint,
        state,
        run if same else None,
        working_folder() / asked,
        found,
        warnings,
    )


def newest_whole(asked: Path, found: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the newest whole checkpoint of a run, with a warning if a newer one is damaged.

    A checkpoint that is named itself is the one that is meant. One that may be whole is not passed over: of
    another version, under another name, or without permission to read it.

    Raises
    ------
    UserError
        That of the newest one where none is whole.
    """
    candidates = [found]
    if found.parent.name == FOLDER and asked.resolve() != found.resolve():
        older = [path for path in checkpoints_of(found.parent.parent) if step_of(path) < step_of(found)]
        candidates += reversed(older)
    first: UserError | None = None
    for checkpoint in candidates:
        try:
            read_whole(checkpoint)
        except UserError as error:
            first = first or error
            if isinstance(error, PerhapsWholeError) or isinstance(error.__cause__, PermissionError):
                break
        else:
            said = f"resume: {first}; going on from {checkpoint.name}" if first else ""
            return checkpoint, (said,) if said else ()
    assert first is not None
    with offering_another(found):
        raise first


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
