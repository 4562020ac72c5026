"""The recipe of a run that goes on: what may differ from the checkpoint's, and where its files lie now."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.config.errors import UserError
from engine.config.paths import expand, function_in_file
from engine.config.recipe import ENDING_KINDS, Recipe
from engine.config.settings import all_settings
from engine.config.toml_fields import argument_text
from engine.data.registry import SOURCES, written
from engine.run.history import RATE


def check_same(saved: Recipe, recipe: Recipe, *, where: str, overridden: tuple[str, ...] = ()) -> None:
    """Refuse to go on with a recipe that would have given other weights.

    Parameters
    ----------
    where
        The file that the recipe stands in; empty where options have changed it.
    overridden
        Fields that differ as the user says so.

    Raises
    ------
    UserError
        Names the first field that may not differ, with both values.
    """
    before, after = _fields(saved), _fields(recipe)
    for name in {**before, **after}:
        was, now = before.get(name), after.get(name)
        if was == now or name in Recipe.NOT_IN_THE_BITS or name in overridden:
            continue
        place = f"{where}: " if where else ""
        changed = f"resume: {place}{name} was {_shown(was)} in the checkpoint's run and is {_shown(now)} now"
        undo = "change it back" if where else "go on without this change"
        if name == RATE:
            undo = f"{undo}, say --override-rate {_shown(now)}"
        if name not in ("epochs", "steps"):
            raise UserError(f"{changed}; must be the same: {undo}, or start a new run, without --resume")
        if saved.schedule.kind in ENDING_KINDS:
            raise UserError(
                f'{changed}; with schedule.kind "{saved.schedule.kind}" the length of the run is in every '
                f"rate, also of the steps already done: must be the same: {undo}, or start a new run"
            )


def placed(recipe: Recipe, started_in: str, given: Mapping[str, Any]) -> Recipe:
    """Return a recipe whose relative paths are those of the folder that the run was started in.

    A path that leads nowhere from there is taken as it is, from the folder of today.

    Parameters
    ----------
    given
        Fields with new values: where a model's or data's file has moved, it keeps its arguments.

    Raises
    ------
    UserError
        Model or data are in neither place; the option that mends it is named.
    """
    found: dict[str, Any] = {}
    for name in ("model", "data", "cluster"):
        if name not in given:
            found[name] = placed_text(name, getattr(recipe, name), started_in)
        elif name != "cluster" and _without_place(given[name]) == _without_place(getattr(recipe, name)):
            found[name] = given[name]
    return replace(recipe, **found)


def anchored(recipe: Recipe, started_in: str) -> Recipe:
    """Return a recipe whose paths lead to the same places when code of the user's has moved the process.

    Without such code it is as it was: messages show paths as they were written.
    """
    if not function_in_file(recipe.model) and not function_in_file(recipe.data):
        return recipe
    names = ("model", "data", "cluster", "init")
    found: dict[str, Any] = {name: anchored_text(name, getattr(recipe, name), started_in) for name in names}
    return replace(recipe, **found)


def anchored_text(name: str, text: str, started_in: str) -> str:
    """Return one such field with a path that begins at the root."""
    before, path, behind = _path_in(name, text)
    return f"{before}{started_in / expand(path, name)}{behind}" if path else text


def placed_text(name: str, text: str, started_in: str, *, what: str = "resume") -> str:
    """Return one such field, "model", "data" or "cluster"; `what` begins the error."""
    before, path, behind = _path_in(name, text)
    if not path:
        return text
    here = expand(path, name)
    there = Path(started_in) / here if started_in else here
    if there.exists():
        moved = there != here and (not here.exists() or not there.samefile(here))
        return f"{before}{there}{behind}" if moved else text
    if here.exists():
        return text
    form = "FILE" if name == "cluster" else "FILE.py:function" if behind else written(before[:-1])
    raise UserError(
        f"{what}: {name} was {text} in the checkpoint's run, and there is no {there.absolute()}; "
        f"if it has moved, --{name} {form} says where to"
    )


def _path_in(name: str, text: str) -> tuple[str, str, str]:
    """Return what stands before a path in a field, the path, and what stands behind it; no path: empty."""
    if name == "init":
        return "", text, ""
    if name == "cluster":
        return "", text if text.endswith(".toml") else "", ""
    if place := function_in_file(text):
        return "", place[0], f":{place[1]}"
    kind, _, folder = text.partition(":")
    takes = name == "data" and kind in SOURCES and SOURCES[kind].takes_folder
    return (f"{kind}:", folder, "") if takes else ("", "", "")


def _fields(recipe: Recipe) -> dict[str, Any]:
    """Return all values of a recipe by dotted name; of a model's file the function only, of data the kind.

    Files may have moved: their content is compared when they have been read.
    """
    found = fields_of(recipe)
    return found | {name: _without_place(found[name]) for name in ("model", "data")}


def fields_of(recipe: Recipe) -> dict[str, Any]:
    """Return all values of a recipe by dotted name."""
    found: dict[str, Any] = {}
    for each in all_settings(Recipe):
        value: Any = recipe
        for part in each.path.split("."):
            value = getattr(value, part)
        if each.setting.arguments_of:
            found |= {f"{each.path}.{key}": entry for key, entry in value.items()}
        elif isinstance(value, dict):  # in their order: the first pattern that fits counts
            found[each.path] = tuple(f"{key}={entry}" for key, entry in value.items())
        else:
            found[each.path] = tuple(value) if isinstance(value, list) else value
    return found


def _without_place(text: str) -> str:
    place = function_in_file(text)
    return place[1] if place else text.partition(":")[0]


def _shown(value: Any) -> str:
    """Return a value as the user writes it."""
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "on" if value else "off"
    return argument_text(list(value) if isinstance(value, tuple) else value)
