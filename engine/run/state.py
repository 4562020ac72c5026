"""Where a run stands, as a checkpoint's `state.json` says it, and what is said beside its weights."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from engine.config.errors import UserError
from engine.config.files import read_bytes
from engine.data.preprocessing import Preprocessing
from engine.data.readers.normalise import Normalisation
from engine.run.best import Best
from engine.run.kept_checkpoints import STATE, named_step

FORMAT = 2
TENSORS = {"convolutions": "OIHW", "fully connected": "[out, in]", "precision": "float32"}
"""Layout and precision of weights in checkpoints."""
_ADDED_LATER = {
    "code": str,
    "started_in": str,
    "epoch_loss": float,
    "files": dict,
    "tensor_sums": dict,
    "normalisation": dict,
    "model": dict,
    "tensors": dict,
    "recipe_sha256": str,
    "weights_sha256": str,
    "model_code": str,
    "test_data": str,
    "init": str,
    "history": list,
    "best": dict,
}
"""Fields of the state that checkpoints of earlier versions may lack."""


class PerhapsWholeError(UserError):
    """A checkpoint is no good here, and may be whole: another version's, or under another name."""


@dataclass(frozen=True)
class State:
    """Where a run stands: `step` updates done, under the recipe whose TOML this is, on this data.

    `data` is `DataSource.identity`: the samples that the run's bits depend on, wherever they lie. `code` is
    the hash of the user's own files, empty without any. `normalisation` is the data's, as
    `Normalisation.to_json` writes it; None where the data has none. `class_names` is what the network's
    outputs stand for; empty in checkpoints of earlier versions. Relative paths in the recipe begin in the
    folder `started_in`, which is as empty there. `epoch_loss` is the sum of the losses of all samples of the
    epoch so far; None there. `init` is the hash of the weights that the run began with, empty where all were
    drawn. `history` is what was changed when the run went on: the step, what, from and to. `best` is the best
    evaluation so far, None where nobody asks.

    What follows says what the checkpoint is without anything beside it; it is empty or None in checkpoints
    of earlier versions: `preprocessing` from what is stored to what the network reads; `model` its name,
    arguments, input_shape and outputs; `tensors` is TENSORS; `recipe_sha256` of the recipe's text;
    `weights_sha256` as in the run's results; `model_code` the hash of the model's own files alone.
    `test_data` is `DataSource.test_identity`.
    """

    step: int
    recipe: str
    data: str
    code: str = ""
    normalisation: dict[str, list[float]] | None = None
    class_names: tuple[str, ...] = ()
    started_in: str = ""
    epoch_loss: float | None = None
    init: str = ""
    history: tuple[dict[str, Any], ...] = ()
    best: Best | None = None
    preprocessing: Preprocessing | None = None
    model: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, str] = field(default_factory=dict)
    recipe_sha256: str = ""
    weights_sha256: str = ""
    model_code: str = ""
    test_data: str = ""

    def about(self) -> dict[str, Any]:
        """Return what a network in use needs, for the metadata of its weights."""
        told = ("step", "class_names", "model", "tensors", "normalisation", "recipe_sha256", "weights_sha256")
        preprocessing = None if self.preprocessing is None else self.preprocessing.to_json()
        return {name: getattr(self, name) for name in told} | {"preprocessing": preprocessing}


def described_state(checkpoint: Path) -> dict[str, Any]:
    """Return the content of a checkpoint's state, with all fields of `State` of the right types."""
    path = checkpoint / STATE
    try:
        found: dict[str, Any] = json.loads(read_bytes(path))
        if found["format"] != FORMAT:
            raise PerhapsWholeError(f"{path}: has format {found['format']}; this version reads {FORMAT}")
        checked(found)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: cannot be read as a checkpoint's state: {said(error)}") from error
    _check_step(found["step"], checkpoint)
    return found


def checked(found: dict[str, Any]) -> dict[str, Any]:
    """Give the fields of a state their types, in place; ValueError, KeyError or TypeError if not."""
    _check_types(found)
    if found.get("normalisation") is not None:
        Normalisation.from_json(found["normalisation"])
    if found.get("preprocessing") is not None:
        found["preprocessing"] = Preprocessing.from_json(found["preprocessing"])
    found["class_names"] = tuple(map(str, found.get("class_names", ())))
    found["history"] = tuple(found.get("history") or ())
    found["best"] = Best.from_json(found["best"]) if found.get("best") else None
    return found


def state_of(described: dict[str, Any]) -> State:
    """Return the state that `described_state` has found; what other versions wrote beside it is left out."""
    known = {each.name for each in fields(State)}
    return State(**{name: value for name, value in described.items() if name in known and value is not None})


def _check_types(found: dict[str, Any]) -> None:
    """Raise ValueError or KeyError for a field that is missing, if it must not be, or of another type."""
    for name, kind in {"step": int, "recipe": str, "data": str}.items():
        if type(found[name]) is not kind:
            raise ValueError(f"{name} is {found[name]!r}")
    for name, kind in _ADDED_LATER.items():
        if found.get(name) is not None and type(found[name]) is not kind:
            raise ValueError(f"{name} is {found[name]!r}")
    for name, each in (
        ("files", (found.get("files") or {}).values()),
        ("tensor_sums", (found.get("tensor_sums") or {}).values()),
        ("history", found.get("history") or ()),
    ):
        if not all(type(entry) is dict for entry in each):
            raise ValueError(f"{name} is {found[name]!r}")


def _check_step(step: int, checkpoint: Path) -> None:
    """Refuse a step that cannot be, or is not the one that the folder is named after.

    What a run that goes on removes as newer is known by its name.
    """
    named, wrong = named_step(checkpoint), ""
    if step < 0:
        wrong = f"step is {step}; must be at least 0"
    elif named is not None and named != step:
        wrong = f"step is {step}, in the folder of step {named}; a checkpoint's folder keeps its name"
    if wrong:
        raise PerhapsWholeError(f"{checkpoint / STATE}: cannot be read as a checkpoint's state: {wrong}")


def said(error: Exception) -> str:
    """Return what is wrong, as a part of a line."""
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return (isinstance(error, OSError) and error.strerror) or str(error)
