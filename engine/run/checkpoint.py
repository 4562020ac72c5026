"""Checkpoints: safetensors and a small JSON in one folder that appears whole or not at all.

``<run>/checkpoints/step-00000120/`` holds ``model.safetensors`` (weights in standard layout),
``optimizer.safetensors`` (moments) and ``state.json``. With `ema` the model is the average of the weights,
and the trained ones are beside the moments. Nothing in them depends on ranks or plan. The metadata of
``model.safetensors`` says, as JSON under the one name LOCKSTEP, what its tensors are, so that the file can be
understood alone. Under one name: safetensors writes several in another order each time.
"""

import json
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from engine.config.errors import UserError
from engine.config.files import UNFINISHED, read_bytes, sync_folder, write_durably, write_whole
from engine.config.recipe import Recipe, parse_recipe
from engine.formats.names import tensor_shapes
from engine.graph import Graph
from engine.graph.passes.freeze import frozen_nodes
from engine.run.best import Best
from engine.run.kept_checkpoints import MODEL, OPTIMIZER, REPLACED, STATE, checkpoint_folder, prune, sweep
from engine.run.state import FORMAT, State, described_state, state_of
from engine.run.tensor_file import TensorFile
from engine.run.whole import as_safetensors, check_whole, offering_another
from engine.training.held import Tensors
from engine.training.optimizer import optimizer_of
from engine.training.parameters import TRAINED
from layers.layer import Array, Shape

LOCKSTEP = "lockstep"
"""Name of the metadata in a checkpoint's model.safetensors."""


def save_checkpoint(run: Path, state: State, model: Tensors, optimizer: Tensors, *, keep: int = 2) -> Path:
    """Write a checkpoint into the run's folder and return its path.

    Of all, the newest `keep` stay, and the best one where that is noted.
    """
    sweep(run)
    folder = checkpoint_folder(run, state.step)
    unfinished, replaced = folder.with_suffix(UNFINISHED), folder.with_suffix(REPLACED)
    try:
        _write(unfinished, state, model, optimizer)
    except OSError:
        with suppress(OSError):  # a full disk is not left fuller
            sweep(run)
        raise
    if folder.exists():
        folder.rename(replaced)
    unfinished.rename(folder)
    sync_folder(folder.parent)
    with suppress(OSError):  # it costs room, not the run
        sweep(run)
    prune(run, folder, keep)
    return folder


def explanation(state: State) -> str:
    """Return what stands under LOCKSTEP."""
    return json.dumps(state.about(), sort_keys=True, default=str)


def note_best_evaluation(checkpoint: Path, best: Best | None) -> None:
    """Write into a checkpoint that is there what its step's evaluation has shown; OSError as it comes."""
    described = json.loads(read_bytes(checkpoint / STATE))
    if described.get("best") != (now := best and asdict(best)):
        write_whole(checkpoint / STATE, json.dumps({**described, "best": now}, indent=2))


def read_state(checkpoint: Path) -> State:
    """Read where a checkpoint stands.

    Raises
    ------
    UserError
        It is damaged, or another version's. The newest whole one beside it is named.
    """
    with offering_another(checkpoint):
        return state_of(described_state(checkpoint))


def read_whole(checkpoint: Path) -> None:
    """Read all files of a checkpoint, and compare them with their sums.

    Raises
    ------
    UserError
        It is damaged, or another version's.
    """
    check_whole(checkpoint)
    parse_recipe(described_state(checkpoint)["recipe"], str(checkpoint))


def saved_recipe(checkpoint: Path, state: State) -> Recipe:
    """Return the recipe that a checkpoint was made under.

    Raises
    ------
    UserError
        Its text is damaged. The newest whole checkpoint beside it is named.
    """
    with offering_another(checkpoint):
        return parse_recipe(state.recipe, str(checkpoint))


def read_tensors(checkpoint: Path, graph: Graph) -> dict[str, Array]:
    """Read all weights, state and moments, checked against what the graph wants.

    There are no moments of layers that were frozen.

    Raises
    ------
    UserError
        A file is damaged, and the newest whole checkpoint beside it is named; or it is another model's.
    """
    with offering_another(checkpoint):
        check_whole(checkpoint)
        recipe = parse_recipe(described_state(checkpoint)["recipe"], str(checkpoint / STATE))
    frozen = frozen_nodes(graph, recipe.freeze)
    prefixes = [f"{moment}." for moment in optimizer_of(recipe.optimizer).moments]
    if recipe.ema:
        prefixes.append(TRAINED)
    wanted = dict[str, Shape]()
    for prefix in prefixes:
        wanted |= _wanted(graph, prefix, without=frozen)
    if recipe.ema:
        wanted |= _states(graph, TRAINED)
    return _read_model(checkpoint, graph) | _read(checkpoint / OPTIMIZER, wanted)


def read_weights_and_state(checkpoint: Path, graph: Graph) -> dict[str, Array]:
    """Read what a network in use needs, as `read_tensors` does; the moments need not be there."""
    with offering_another(checkpoint):
        check_whole(checkpoint, (MODEL,))
    return _read_model(checkpoint, graph)


@contextmanager
def model_file(checkpoint: Path) -> Iterator[Path]:
    """Yield the file of a checkpoint's weights, to be opened inside the `with`.

    What fails there is a UserError, which names the newest whole checkpoint beside it.
    """
    with offering_another(checkpoint), as_safetensors(checkpoint / MODEL):
        yield checkpoint / MODEL


def read_file(path: Path) -> dict[str, Array]:
    """Read all tensors of a file; UserError where it cannot be read as safetensors."""
    with as_safetensors(path):
        try:
            tensors: dict[str, Array] = load_file(path)
        except (TypeError, AttributeError) as error:  # of a type that numpy has not: "BF16", "F8_E4M3"
            raise ValueError(f"it holds values of another type: {error}") from error
    return tensors


def _write(folder: Path, state: State, model: Tensors, optimizer: Tensors) -> None:
    """Write the files of a checkpoint to the disk, in a new folder; the one with their sums comes last."""
    if not folder.parent.is_dir():
        folder.parent.mkdir()  # not the run's folder, which may be away
        sync_folder(folder.parent.parent)
    folder.mkdir()
    files = {MODEL: TensorFile(model, {LOCKSTEP: explanation(state)}), OPTIMIZER: TensorFile(optimizer)}
    for name, file in files.items():
        write_durably(folder / name, file.content())
    sums = {name: {"bytes": file.bytes, "crc32": file.crc32} for name, file in files.items()}
    described = {"format": FORMAT, **asdict(state), "files": sums}
    described["tensor_sums"] = {name: file.sums for name, file in files.items()}
    write_durably(folder / STATE, (json.dumps(described, indent=2, default=str).encode(),))
    sync_folder(folder)


def check_fit(tensors: Mapping[str, Array], wanted: Mapping[str, Shape], where: str) -> None:
    """Raise UserError where a tensor is missing, or has another shape or type."""
    for name, shape in wanted.items():
        got = tensors.get(name)
        if got is None or got.shape != shape or got.dtype != np.float32:
            came = "nothing" if got is None else f"{got.dtype} {list(got.shape)}"
            raise UserError(f"{where}: holds {came} for {name}; the model wants float32 {list(shape)}")


def _read_model(checkpoint: Path, graph: Graph) -> dict[str, Array]:
    return _read(checkpoint / MODEL, tensor_shapes(graph))


def _read(path: Path, wanted: dict[str, Shape]) -> dict[str, Array]:
    tensors = read_file(path)
    check_fit(tensors, wanted, str(path))
    return tensors


def _wanted(graph: Graph, prefix: str, *, without: Container[str] = ()) -> dict[str, Shape]:
    return {
        f"{prefix}{node.name}.{name}": parameter.shape
        for node in graph
        if node.name not in without
        for name, parameter in node.layer.parameters(*graph.input_shapes(node)).items()
    }


def _states(graph: Graph, prefix: str) -> dict[str, Shape]:
    return {
        f"{prefix}{node.name}.{name}": state.shape
        for node in graph
        for name, state in node.layer.state(*graph.input_shapes(node)).items()
    }
