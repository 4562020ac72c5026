"""A file of weights alone, as far as its metadata say what it is: of a checkpoint, of export, of convert."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import safe_open

from engine.config.errors import UserError
from engine.config.recipe import Recipe
from engine.formats.names import tensor_shapes
from engine.formats.safetensors_file import read_safetensors
from engine.graph import Graph
from engine.run.checkpoint import LOCKSTEP, check_fit
from engine.run.finding import read_found
from engine.run.kept_checkpoints import MODEL, STATE
from engine.run.state import State, checked, said, state_of
from engine.run.whole import as_safetensors
from engine.training.hashes import sha256_of
from layers.layer import Array
from layers.precision import stated_in

T = TypeVar("T")

ENDING = ".safetensors"
_CONVERT = "python -m engine.convert makes one of a state dict"
_TEXTS = ("step", "class_names", "model_arguments")
"""Metadata of export and convert that are JSON."""


def read_named(path: Path, read: Callable[[Path], T], *, best: bool = False) -> T:
    """Return what `read` makes of a file of weights, or of a checkpoint as `read_found` finds it.

    The file of a checkpoint in its folder is the checkpoint, which says more.

    Raises
    ------
    UserError
        It is a file of another kind; or `best` of a file, which has no other checkpoints.
    """
    is_part = path.name == MODEL and (path.parent / STATE).is_file()
    if not path.is_file() or is_part:
        return read_found(path.parent if is_part else path, read, what="checkpoint", best=best)
    if path.suffix != ENDING:
        raise UserError(
            f"checkpoint: {path} is a file; must be a run's folder, a checkpoint or a {ENDING}: {_CONVERT}"
        )
    if best:
        raise UserError(f"best: {path} is one file; must be a run that was trained with --keep-best")
    return read(path)


def read_about(path: Path) -> tuple[State, Recipe]:
    """Return what a file says of its network, and a recipe of which no more than the network is known.

    Raises
    ------
    UserError
        It cannot be read, or says nothing of its network.
    """
    with as_safetensors(path), safe_open(path, "numpy") as file:
        metadata = file.metadata() or {}
    try:
        about = _about(metadata)
        if about is None:
            raise UserError(f"{path}: does not say which network it is of; {_CONVERT} that does")
        state = state_of(checked({"step": 0, "recipe": "", "data": "", **about}))
        model, arguments = state.model["name"], state.model["arguments"]
        if type(model) is not str or type(arguments) is not dict:
            raise ValueError(f"model is {state.model!r}")
        precision = stated_in(state.model)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: its metadata are not as they were written: {said(error)}") from error
    return state, Recipe(model=model, model_arguments=arguments, data="", epochs=1, precision=precision)


def read_weights(path: Path, graph: Graph, state: State) -> dict[str, Array]:
    """Read weights and state of a network.

    Raises
    ------
    UserError
        The file cannot be read, is another network's, or its weights are not those that its metadata name.
    """
    tensors = read_safetensors(path)
    check_fit(tensors, tensor_shapes(graph), str(path))
    parameters = {node.name: node.layer.parameters(*graph.input_shapes(node)) for node in graph}
    names = [f"{node}.{name}" for node, its in parameters.items() for name in its]
    found = sha256_of({name: tensors[name] for name in names})
    if state.weights_sha256 not in ("", found):
        raise UserError(
            f"{path}: is damaged, or was changed: its weights have the hash {found}, and had "
            f"{state.weights_sha256}"
        )
    return tensors


def _about(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """Return fields of `State`; None where there are none of a network."""
    if LOCKSTEP in metadata:
        written, known = json.loads(metadata[LOCKSTEP]), State(0, "", "").about()
        if type(written) is not dict:
            raise ValueError(f"{LOCKSTEP} is {written!r}")
        return {name: value for name, value in written.items() if name in known}
    if "model" not in metadata:
        return None
    given = {name: json.loads(metadata[name]) for name in _TEXTS if name in metadata}
    arguments = given.pop("model_arguments", {})
    hashed = {"weights_sha256": metadata["weights_sha256"]} if "weights_sha256" in metadata else {}
    return {**given, **hashed, "model": {"name": metadata["model"], "arguments": arguments}}
