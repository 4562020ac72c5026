"""Checkpoints: safetensors and a small JSON in one folder that appears whole or not at all.

``<run>/checkpoints/step-00000120/`` holds ``model.safetensors`` (weights in standard layout),
``optimizer.safetensors`` (velocities) and ``state.json``. Nothing in them depends on ranks or plan.
"""

import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from engine.config.errors import UserError
from engine.config.files import UNFINISHED, reading, sync_folder, write_durably
from engine.graph import Graph
from engine.training.parameters import MOMENTUM
from layers.layer import Array, Shape

FORMAT = 2
KEPT = 2  # the newest checkpoints; older ones are removed
FOLDER = "checkpoints"
_MODEL, _OPTIMIZER, _STATE = "model.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True)
class State:
    """Where a run stands: `step` updates done, under the recipe whose TOML this is, on this data.

    `data` is `DataSource.identity`: the samples that the run's bits depend on, wherever they lie. `code` is
    the hash of the user's own files, empty without any. `normalisation` is the data's, as
    `Normalisation.to_json` writes it; None where the data has none.
    """

    step: int
    recipe: str
    data: str
    code: str = ""
    normalisation: dict[str, list[float]] | None = None


def save_checkpoint(run: Path, state: State, weights: dict[str, Array], velocities: dict[str, Array]) -> Path:
    """Write a checkpoint into the run's folder and return its path."""
    folder = run / FOLDER / f"step-{state.step:08d}"
    for stale in folder.parent.glob("step-*.*"):  # of a run that was killed while it saved
        shutil.rmtree(stale, ignore_errors=True)
    unfinished, replaced = folder.with_suffix(UNFINISHED), folder.with_suffix(".replaced")
    unfinished.mkdir(parents=True)
    described = json.dumps({"format": FORMAT, **asdict(state)}, indent=2).encode()
    for name, content in ((_MODEL, save(weights)), (_OPTIMIZER, save(velocities)), (_STATE, described)):
        write_durably(unfinished / name, (content,))
    sync_folder(unfinished)
    if folder.exists():
        folder.rename(replaced)
    unfinished.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)
    others = [path for path in _checkpoints(run) if path != folder]
    for old in others[: 1 - KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint folder that `path` is, or the newest one of the run that `path` is."""
    with reading(path, "resume"):
        if (path / _STATE).is_file():
            return path
        found = _checkpoints(path)
    if not found:
        raise UserError(f"resume: {path} holds no checkpoint; give a run's folder or one of its checkpoints")
    return found[-1]


def remove_newer(run: Path, step: int) -> None:
    """Remove the checkpoints of a run that were made after `step`."""
    for checkpoint in _checkpoints(run):
        if _step(checkpoint) > step:
            shutil.rmtree(checkpoint)


def read_state(checkpoint: Path) -> State:
    """Read where a checkpoint stands."""
    path = checkpoint / _STATE
    try:
        state: dict[str, Any] = json.loads(path.read_bytes())
        if state["format"] != FORMAT:
            raise UserError(f"{path}: has format {state['format']}; this version reads {FORMAT}")
        return State(
            int(state["step"]),
            str(state["recipe"]),
            str(state["data"]),
            str(state.get("code", "")),
            state.get("normalisation"),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: cannot be read as a checkpoint's state: {error}") from error


def read_tensors(checkpoint: Path, graph: Graph) -> dict[str, Array]:
    """Read all weights, state and velocities, checked against what the graph wants."""
    state = {
        f"{node.name}.{name}": state.shape
        for node in graph
        for name, state in node.layer.state(*graph.input_shapes(node)).items()
    }
    weights = _read(checkpoint / _MODEL, _wanted(graph, "") | state)
    return weights | _read(checkpoint / _OPTIMIZER, _wanted(graph, MOMENTUM))


def _wanted(graph: Graph, prefix: str) -> dict[str, Shape]:
    return {
        f"{prefix}{node.name}.{name}": parameter.shape
        for node in graph
        for name, parameter in node.layer.parameters(*graph.input_shapes(node)).items()
    }


def _read(path: Path, wanted: dict[str, Shape]) -> dict[str, Array]:
    try:
        tensors: dict[str, Array] = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as safetensors: {error}") from error
    for name, shape in wanted.items():
        got = tensors.get(name)
        if got is None or got.shape != shape or got.dtype != np.float32:
            came = "nothing" if got is None else f"{got.dtype} {list(got.shape)}"
            raise UserError(f"{path}: holds {came} for {name}; the model wants float32 {list(shape)}")
    return tensors


def _checkpoints(run: Path) -> list[Path]:
    """Return the whole checkpoints of a run, the newest last."""
    found = [path.parent for path in (run / FOLDER).glob(f"step-*/{_STATE}")]
    return sorted((path for path in found if re.fullmatch(r"step-[0-9]+", path.name)), key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))
