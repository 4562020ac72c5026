"""What a checkpoint, or a run with its checkpoints, is: read without building the network."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from engine.config.errors import UserError
from engine.config.files import read_bytes, reading
from engine.config.recipe import Recipe
from engine.run.checkpoint import model_file, read_state, saved_recipe
from engine.run.finding import best_checkpoint
from engine.run.kept_checkpoints import MODEL, OPTIMIZER, STATE, checkpoints_of, step_of
from engine.run.run_folder import RESULTS
from engine.run.state import State
from engine.run.whole import as_safetensors
from engine.trained.weights_file import read_about, read_named
from layers.precision import FP32

_FILES = (MODEL, OPTIMIZER, STATE)
_UNSAID, _EARLIER = "not said", ": written by an earlier version"
_MOST_NAMES = 12  # classes in a line
_RESULTS = (
    "steps",
    "epochs",
    "final_loss",
    "test_loss",
    "test_accuracy",
    "interrupted",
    "samples_per_second",
)


@dataclass(frozen=True)
class Tensor:
    """A tensor's name, shape and type, as the file says."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Description:
    """A checkpoint, and the run around it where a run was asked about."""

    checkpoint: Path
    state: State
    recipe: Recipe
    tensors: tuple[Tensor, ...]
    bytes: dict[str, int]
    """Of the files that are there, by name."""
    run: Path | None = None
    checkpoints: tuple[Path, ...] = ()
    """Of the run, the newest last."""
    best: Path | None = None
    results: dict[str, Any] | None = None
    """Of the run; None where it has none, or is not over."""

    def to_json(self) -> dict[str, Any]:
        """Return all of it."""
        state = self.state
        shown: dict[str, Any] = {
            "checkpoint": str(self.checkpoint),
            **state.about(),
            "data": state.data,
            "code": state.code or None,
            "recipe": state.recipe,
            "history": state.history,
            "tensor_list": [{"name": t.name, "shape": list(t.shape), "dtype": t.dtype} for t in self.tensors],
            "bytes": self.bytes,
        }
        if self.run is not None:
            shown["run"] = {
                "folder": str(self.run),
                "checkpoints": [str(each) for each in self.checkpoints],
                "newest": str(self.checkpoints[-1]),
                "best": None if self.best is None else str(self.best),
                "results": self.results,
            }
        return shown

    def lines(self) -> list[str]:
        """Return it for a reader."""
        rows = [*self._run_rows(), *self._rows()]
        width = max(len(name) for name, _ in rows)
        return [f"{name:<{width}}  {text}" for name, text in rows]

    def _run_rows(self) -> Iterator[tuple[str, str]]:
        if self.run is None:
            return
        yield "run", str(self.run)
        if self.results is None:
            yield "results", "none: not over, or ended by an error"
        else:
            shown = {name: self.results[name] for name in _RESULTS if self.results.get(name) is not None}
            yield "results", ", ".join(f"{name} {_figure(value)}" for name, value in shown.items())
        for path in self.checkpoints:
            marks = [
                name
                for name, marked in (("newest", self.checkpoints[-1]), ("best", self.best))
                if path == marked
            ]
            yield f"step {step_of(path)}", f"{path}{' (' + ', '.join(marks) + ')' if marks else ''}"

    def _rows(self) -> Iterator[tuple[str, str]]:
        state, recipe = self.state, self.recipe
        unsaid = _UNSAID + _EARLIER if recipe.data else _UNSAID
        yield "checkpoint", str(self.checkpoint)
        if self.recipe.data or state.step:
            yield "step", str(state.step)
        yield "model", _model(state, recipe)
        if recipe.precision != FP32:
            yield "precision", f"products of {recipe.precision}; the weights are fp32"
        yield "classes", _classes(state.class_names) or unsaid
        yield "preprocessing", unsaid if state.preprocessing is None else state.preprocessing.words()
        if state.normalisation is not None:
            scale, shift = (
                " ".join(f"{value:.6g}" for value in state.normalisation[name]) for name in ("scale", "shift")
            )
            yield "normalisation", f"pixel * {scale} + {shift}"
        yield "layout", ", ".join(f"{key} {value}" for key, value in state.tensors.items()) or unsaid
        values = sum(_size(tensor) for tensor in self.tensors)
        yield "tensors", f"{len(self.tensors)} with {values:,} values"
        for tensor in self.tensors:
            yield f"  {tensor.name}", f"{tensor.dtype} {list(tensor.shape)}"
        if recipe.data:
            yield "trained on", f"{recipe.data} ({state.data})"
        yield "recipe", f"sha256 {state.recipe_sha256}" if state.recipe_sha256 else unsaid
        yield "weights", f"sha256 {state.weights_sha256}" if state.weights_sha256 else unsaid
        for each in state.history:
            what, was, now = (each.get(name) for name in ("what", "from", "to"))
            yield "changed", f"after step {each.get('step')}: {what} from {was} to {now}"
        if state.code:
            yield "own code", f"hash {state.code}"
        yield "files", ", ".join(f"{name} {count / 1e6:.2f} MB" for name, count in self.bytes.items())


def describe(path: Path, *, best: bool = False) -> Description:
    """Describe a checkpoint or a file of weights, or a run by its newest checkpoint or its best one.

    Raises
    ------
    UserError
        There is no checkpoint, or it is damaged.
    """
    return read_named(path, lambda found: _described(found, path), best=best)


def _described_file(path: Path) -> Description:
    state, recipe = read_about(path)
    with as_safetensors(path):
        tensors = _tensors(path)
    return Description(path, state, recipe, tensors, {path.name: path.stat().st_size})


def _described(checkpoint: Path, path: Path) -> Description:
    if checkpoint.is_file():
        return _described_file(checkpoint)
    state = read_state(checkpoint)
    recipe = saved_recipe(checkpoint, state)
    with model_file(checkpoint) as file:
        tensors = _tensors(file)
    present = [name for name in _FILES if (checkpoint / name).exists()]
    sizes = {name: (checkpoint / name).stat().st_size for name in present}
    if checkpoint in (path, path.parent):
        return Description(checkpoint, state, recipe, tensors, sizes)
    found, best = tuple(checkpoints_of(path)), best_checkpoint(path)
    return Description(checkpoint, state, recipe, tensors, sizes, path, found, best, results_of(path))


def results_of(run: Path) -> dict[str, Any] | None:
    """Return the content of a run's `run.json`; None where there is none. UserError where it is damaged."""
    path = run / RESULTS
    if not path.exists():
        return None
    with reading(path):
        text = read_bytes(path)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is damaged: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: is damaged: is no table of results")
    return found


def _tensors(path: Path) -> tuple[Tensor, ...]:
    """Return what a file of weights holds, read off its head; a file that is cut short is an error."""
    with safe_open(path, "numpy") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 -- no dict
        found = [Tensor(name, tuple(each.get_shape()), each.get_dtype()) for name, each in slices.items()]
    return tuple(found)


def _model(state: State, recipe: Recipe) -> str:
    arguments = ", ".join(f"{name}={value!r}" for name, value in recipe.model_arguments.items())
    shape = state.model.get("input_shape")
    reads = ""
    if isinstance(shape, list):
        reads = f": reads {' x '.join(map(str, shape))}, {state.model.get('outputs')} outputs"
    return f"{recipe.model}({arguments}){reads}"


def _classes(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return f"{len(names)}: {shown}{', ...' if len(names) > _MOST_NAMES else ''}" if names else ""


def _size(tensor: Tensor) -> int:
    size = 1
    for extent in tensor.shape:
        size *= extent
    return size


def _figure(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value).lower()
