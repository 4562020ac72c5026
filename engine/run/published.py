"""Published hashes: which weights a shipped recipe ends with, in this version, on every machine."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.config.recipe import Recipe
from engine.data.dataset import digest
from engine.run.saver import Task

FILE = Path(__file__).with_name("published.toml")


@dataclass(frozen=True)
class Published:
    """A run whose bits are published."""

    recipe: str
    """Hash of all that decides its bits, as `recipe_hash` makes it."""
    data: str
    """Kind and hash of the training samples."""
    weights_sha256: str


def read_published() -> dict[str, Published]:
    """Return what is published in this version, by the names of recipes."""
    return {name: Published(**its) for name, its in tomllib.loads(FILE.read_text()).items()}


def recipe_hash(recipe: Recipe) -> str:
    """Hash the fields of a recipe that decide its bits; the place of the data is none of them."""
    return digest(json.dumps(_deciding(asdict(recipe)), sort_keys=True, default=str))


def _deciding(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the fields that decide bits by dotted names."""
    found = dict[str, Any]()
    for name, value in fields.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and path in ("optimizer", "schedule"):
            found |= _deciding(value, f"{path}.")
        elif path not in (*Recipe.NOT_IN_THE_BITS, "data"):
            found[path] = value
    return found


def published_sha256(task: Task) -> str | None:
    """Return the hash with which a run must end that is not cut short; None where none is published."""
    if task.code or task.init or task.history:
        return None
    own = recipe_hash(task.recipe)
    candidates = [each for each in read_published().values() if each.recipe == own]
    found = [each.weights_sha256 for each in candidates if each.data == task.data.identity]
    return found[0] if found else None


def published_line(results: Mapping[str, Any]) -> str | None:
    """Return what a user is told at the end of a run; None where nothing is published."""
    published = results["published_sha256"]
    if published is None:
        return None
    if results["weights_sha256"] == published:
        return "as published: yes"
    return f"as published: no: this version's weights_sha256 for this recipe is {published}"
