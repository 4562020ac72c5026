"""Training from Python: `lockstep.train`, and the `Run` that it returns."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from comm import failure, mpi
from comm.communicator import Communicator
from engine.config.arguments import as_path
from engine.config.errors import UserError
from engine.config.files import read_bytes, reading
from engine.config.recipe import Recipe, override, read_recipe
from engine.config.settings import all_settings
from engine.config.wording import did_you_mean, one_of
from engine.profile.breakdown import Breakdown
from engine.run.callbacks import Callback
from engine.run.finding import best_checkpoint, find_checkpoint
from engine.run.launch import run_in_process
from engine.run.run_folder import METRICS
from engine.run.start import Start, no_new_rate, resumed_run
from layers.layer import Array


@dataclass(frozen=True, eq=False)
class Run:
    """A run that is over; on every rank of it."""

    results: dict[str, Any]
    """The content of `run.json`: losses, `weights_sha256`, timings, and whether it was interrupted."""
    folder: Path
    """On the host of rank 0, which alone writes there."""
    weights: dict[str, Array] = field(repr=False)
    """All weights, float32 in standard layout (OIHW, [out, in]), by ``node.parameter``."""

    @property
    def table(self) -> Breakdown | None:
        """Where the time went, by part of a step; `lines()` are the table. None without a whole step."""
        where = self.results["where_the_time_went"]
        return None if where is None else Breakdown.from_json(where)

    @property
    def checkpoint(self) -> Path | None:
        """The newest checkpoint; None where the recipe wants none."""
        try:
            return find_checkpoint(self.folder)
        except UserError:
            return None

    @property
    def best(self) -> Path | None:
        """The checkpoint that did best on the test set, where the recipe keeps it; else the newest one."""
        return best_checkpoint(self.folder) or self.checkpoint

    def metrics(self, kind: str = "step") -> list[dict[str, Any]]:
        """Return the records of all steps, or of all evaluations with kind "epoch", from the run's folder."""
        path = self.folder / METRICS
        with reading(path):
            text = read_bytes(path)
        try:
            records = [json.loads(line) for line in text.splitlines()]
            return [record for record in records if record["kind"] == kind]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{path}: is damaged: has a line that no run wrote") from error


def train(
    recipe: Recipe | str | Path = "digits",
    *,
    resume: str | Path | None = None,
    override_rate: float | None = None,
    callbacks: Sequence[Callback] = (),
    changes: Mapping[str, Any] | None = None,
    **options: Any,
) -> Run:
    """Train in this process; under mpirun or srun call it on all ranks.

    Parameters
    ----------
    recipe
        A `Recipe`, the name of a shipped one, or the path of a TOML file. With `resume` it is not looked at:
        the checkpoint's is used.
    resume
        A run's folder or a checkpoint: go on from there.
    override_rate
        With `resume`: another learning rate from there on, which the run's history keeps.
    callbacks
        Called between steps on all ranks; see `Callback`.
    changes
        Fields of the recipe's tables by dotted name: ``{"schedule.rate": 0.1}``.
    options
        Other fields of the recipe: ``steps=100, batch=32``. One of `steps` and `epochs` replaces the other.

    Raises
    ------
    UserError
        What is wrong with the arguments, before a first step; on all ranks. Alone, also what fails later: a
        full disk, a sample that cannot be read; several ranks end together then, with exit code 2.
    """

    def start() -> Start:
        _check_callbacks(callbacks)
        return _start(recipe, resume, _asked(changes, options), override_rate)

    finished = run_in_process(_world(), start, callbacks=callbacks)
    return Run(finished.results, finished.folder, finished.weights)


def _asked(changes: Mapping[str, Any] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all fields that are changed, by name; one of steps and epochs replaces the other."""
    if changes is not None and not (
        isinstance(changes, Mapping) and all(type(each) is str for each in changes)
    ):
        raise UserError(f"changes: got {changes!r}; must be fields by name")
    asked = {**options, **(changes or {})}
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in asked.items()}
    if "steps" in asked and "epochs" not in asked:
        asked["epochs"] = 0
    if "epochs" in asked and "steps" not in asked:
        asked["steps"] = 0
    return asked


def _check_callbacks(callbacks: Sequence[Callback]) -> None:
    if not isinstance(callbacks, list | tuple) or not all(isinstance(each, Callback) for each in callbacks):
        raise UserError(f"callbacks: got {callbacks!r}; must be a list of Callback objects")


def _start(
    recipe: Recipe | str | Path,
    resume: str | Path | None,
    asked: dict[str, Any],
    override_rate: float | None,
) -> Start:
    for name in asked:
        _check_known(name)
    if not isinstance(override_rate, float | int | None):
        raise UserError(f"override_rate: got {override_rate!r}; must be a number")
    if resume is not None:
        return resumed_run(str(as_path("resume", resume)), None, asked, override_rate=override_rate)
    no_new_rate(override_rate)
    if isinstance(recipe, Recipe):
        return Start(override(recipe, asked), recipe.model.rpartition(":")[2])
    named = as_path("recipe", recipe)
    return Start(override(read_recipe(str(named)), asked), named.stem)


def _check_known(name: str) -> None:
    """Raise UserError unless a recipe has the field, "batch", or the field of a table, "schedule.rate"."""
    settings = {each.path: each.setting for each in all_settings(Recipe)}
    table, dot, _ = name.partition(".")
    if name in settings or (not dot and name in {each.name for each in fields(Recipe)}):
        return
    if dot and table in settings and settings[table].arguments_of:
        return  # one argument of the user's function, of any name
    for path, setting in settings.items():
        if setting.option == name:
            raise UserError(f'recipe: "{name}" is the option of the field {path}: changes={{"{path}": ...}}')
    raise UserError(f'recipe: unknown field "{name}"{did_you_mean(name, settings)}; {one_of(settings)}')


def _world() -> Communicator:
    """Return the communicator of all ranks.

    If there are several, an error that nobody catches on one ends them all, from the first call on.
    """
    try:
        world = mpi.world()
    except mpi.LaunchError as error:
        raise UserError(str(error)) from error
    if world.size > 1:
        failure.install(world)
    return world
