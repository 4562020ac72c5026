"""Checkpoints: safetensors and a small JSON in one folder that appears whole or not at all.

``<run>/checkpoints/step-00000120/`` holds ``model.safetensors`` (weights in standard layout),
``optimizer.safetensors`` (velocities) and ``state.json``. Nothing in them depends on ranks or plan. The
metadata of ``model.safetensors`` says, as JSON under the one name LOCKSTEP, what its tensors are, so that the
file can be understood alone. Under one name: safetensors writes several in another order each time.
"""

import json
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from engine.config.errors import UserError
from engine.config.files import (
    UNFINISHED,
    check_regular,
    open_file,
    read_bytes,
    reading,
    sync_folder,
    write_durably,
    write_whole,
)
from engine.config.recipe import Recipe, parse_recipe
from engine.data.preprocessing import Preprocessing
from engine.data.readers.normalise import Normalisation
from engine.graph import Graph
from engine.graph.passes.patterns import first_matching
from engine.run.best import Best
from engine.run.kept_checkpoints import (
    FOLDER,
    MODEL,
    OPTIMIZER,
    REPLACED,
    STATE,
    best_of,
    checkpoint_folder,
    checkpoints_of,
    named_step,
    prune,
    step_of,
    sweep,
)
from engine.training.parameters import MOMENTUM
from layers.layer import Array, Shape

T = TypeVar("T")

FORMAT = 2
LOCKSTEP = "lockstep"
"""Name of the metadata in a checkpoint's model.safetensors."""
TENSORS = {"convolutions": "OIHW", "fully connected": "[out, in]", "precision": "float32"}
"""Layout and precision of weights in checkpoints."""
_LOOKS = 3  # for a newer checkpoint
_PIECE = 1 << 22  # bytes that are read at a time
_ADDED_LATER = {
    "code": str,
    "started_in": str,
    "epoch_loss": float,
    "files": dict,
    "normalisation": dict,
    "model": dict,
    "tensors": dict,
    "recipe_sha256": str,
    "weights_sha256": str,
    "model_code": str,
    "init": str,
    "history": list,
    "best": dict,
}
"""Fields of the state that checkpoints of earlier versions may lack."""


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

    def about(self) -> dict[str, Any]:
        """Return what a network in use needs, for the metadata of its weights."""
        told = ("step", "class_names", "model", "tensors", "normalisation", "recipe_sha256", "weights_sha256")
        preprocessing = None if self.preprocessing is None else self.preprocessing.to_json()
        return {name: getattr(self, name) for name in told} | {"preprocessing": preprocessing}


def save_checkpoint(
    run: Path, state: State, weights: dict[str, Array], velocities: dict[str, Array], *, keep: int = 2
) -> Path:
    """Write a checkpoint into the run's folder and return its path.

    Of all, the newest `keep` stay, and the best one where that is noted.
    """
    sweep(run)
    folder = checkpoint_folder(run, state.step)
    unfinished, replaced = folder.with_suffix(UNFINISHED), folder.with_suffix(REPLACED)
    about = {LOCKSTEP: json.dumps(state.about(), sort_keys=True, default=str)}
    contents = {MODEL: save(weights, metadata=about), OPTIMIZER: save(velocities)}
    sums = {name: {"bytes": len(each), "crc32": crc32(each)} for name, each in contents.items()}
    contents[STATE] = json.dumps(
        {"format": FORMAT, **asdict(state), "files": sums}, indent=2, default=str
    ).encode()
    try:
        _write(unfinished, contents)
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


def _write(folder: Path, contents: dict[str, bytes]) -> None:
    """Write the files of a checkpoint to the disk, in a new folder."""
    if not folder.parent.is_dir():
        folder.parent.mkdir(parents=True)
        sync_folder(folder.parent.parent)
    folder.mkdir()
    for name, content in contents.items():
        write_durably(folder / name, (content,))
    sync_folder(folder)


def note_best_evaluation(checkpoint: Path, best: Best | None) -> None:
    """Write into a checkpoint that is there what its step's evaluation has shown; OSError as it comes."""
    described = json.loads(read_bytes(checkpoint / STATE))
    if described.get("best") != (now := best and asdict(best)):
        write_whole(checkpoint / STATE, json.dumps({**described, "best": now}, indent=2))


def find_checkpoint(path: Path, *, what: str = "resume") -> Path:
    """Return the checkpoint folder that `path` is, or the newest one of the run that `path` is.

    `what` is the option that named it, for errors.
    """
    with reading(path, what):
        if (path / STATE).is_file():
            return path
        found = checkpoints_of(path)
        if not found:
            raise UserError(f"{what}: {path} holds no checkpoint{_instead(path)}")
    return found[-1]


def _instead(path: Path) -> str:
    """Return what a place without a checkpoint is."""
    if not path.exists():
        return ": there is no such folder"
    if (path / "recipe.toml").is_file():
        return ": the run there has saved none so far"
    return "; give a run's folder or one of its checkpoints"


def read_newest(path: Path, read: Callable[[Path], T], *, what: str) -> T:
    """Return what `read` makes of the checkpoint that `find_checkpoint` finds.

    A run that goes on may remove it between finding and reading; then there is a newer one, which is read.
    """
    checkpoint = find_checkpoint(path, what=what)
    for _ in range(_LOOKS):
        try:
            return read(checkpoint)
        except (UserError, OSError):
            newest = find_checkpoint(path, what=what)
            if newest == checkpoint:
                raise
            checkpoint = newest
    return read(checkpoint)


def best_checkpoint(run: Path) -> Path | None:
    """Return the checkpoint of a run that is noted as its best; None where none is."""
    best = best_of(run)
    return None if best is None else checkpoint_folder(run, best.step)


def read_state(checkpoint: Path) -> State:
    """Read where a checkpoint stands.

    Raises
    ------
    UserError
        It is damaged, or another version's. The newest whole one beside it is named.
    """
    with _offering_another(checkpoint):
        described = _read_state(checkpoint)
    known = {each.name for each in fields(State)}
    return State(**{name: value for name, value in described.items() if name in known and value is not None})


def saved_recipe(checkpoint: Path, state: State) -> Recipe:
    """Return the recipe that a checkpoint was made under.

    Raises
    ------
    UserError
        Its text is damaged. The newest whole checkpoint beside it is named.
    """
    with _offering_another(checkpoint):
        return parse_recipe(state.recipe, str(checkpoint))


def read_tensors(checkpoint: Path, graph: Graph) -> dict[str, Array]:
    """Read all weights, state and velocities, checked against what the graph wants.

    There are no velocities of layers that were frozen.

    Raises
    ------
    UserError
        A file is damaged, and the newest whole checkpoint beside it is named; or it is another model's.
    """
    with _offering_another(checkpoint):
        check_whole(checkpoint)
        recipe = parse_recipe(_read_state(checkpoint)["recipe"], str(checkpoint / STATE))
    frozen = first_matching(graph, recipe.freeze)
    velocities = _wanted(graph, MOMENTUM, without=frozen)
    return _read_model(checkpoint, graph) | _read(checkpoint / OPTIMIZER, velocities)


def read_weights_and_state(checkpoint: Path, graph: Graph) -> dict[str, Array]:
    """Read what a network in use needs, as `read_tensors` does; the velocities need not be there."""
    with _offering_another(checkpoint):
        check_whole(checkpoint, (MODEL,))
    return _read_model(checkpoint, graph)


def _read_model(checkpoint: Path, graph: Graph) -> dict[str, Array]:
    state = {
        f"{node.name}.{name}": state.shape
        for node in graph
        for name, state in node.layer.state(*graph.input_shapes(node)).items()
    }
    return _read(checkpoint / MODEL, _wanted(graph, "") | state)


@contextmanager
def _offering_another(damaged: Path) -> Iterator[None]:
    """Let the error of a damaged checkpoint name the newest older one beside it that is whole."""
    try:
        yield
    except UserError as error:
        whole = _whole_before(damaged) if damaged.parent.name == FOLDER else None
        if whole is None:
            raise
        raise UserError(f"{error}; the one before it is whole: {whole}") from error


def _whole_before(damaged: Path) -> Path | None:
    for other in reversed(checkpoints_of(damaged.parent.parent)):
        with suppress(UserError):
            if step_of(other) < step_of(damaged):
                check_whole(other)
                return other
    return None


def check_whole(checkpoint: Path, names: tuple[str, ...] = (MODEL, OPTIMIZER)) -> None:
    """Raise UserError where one of these files of a checkpoint is missing, or not what was written."""
    sums = _read_state(checkpoint).get("files") or {}  # versions before this one wrote none
    for name in names:
        path, wanted = checkpoint / name, sums.get(name)
        with _safetensors(path), safe_open(path, "numpy"):
            pass
        with reading(path):
            found = _sum(path)
        if wanted is not None and found != wanted:
            both = (", ".join(f"{key} {value}" for key, value in each.items()) for each in (found, wanted))
            raise UserError("{}: is damaged: has {}; had {} when it was written".format(path, *both))


def _sum(path: Path) -> dict[str, int]:
    length = check = 0
    with open_file(path) as file:
        while piece := file.read(_PIECE):
            length, check = length + len(piece), crc32(piece, check)
    return {"bytes": length, "crc32": check}


def _read_state(checkpoint: Path) -> dict[str, Any]:
    """Return the content of a checkpoint's state, with all fields of `State` of the right types."""
    path = checkpoint / STATE
    try:
        found: dict[str, Any] = json.loads(read_bytes(path))
        if found["format"] != FORMAT:
            raise UserError(f"{path}: has format {found['format']}; this version reads {FORMAT}")
        _check_types(found)
        _check_step(found["step"], checkpoint)
        if found.get("normalisation") is not None:
            Normalisation.from_json(found["normalisation"])
        if found.get("preprocessing") is not None:
            found["preprocessing"] = Preprocessing.from_json(found["preprocessing"])
        found["class_names"] = tuple(map(str, found.get("class_names", ())))
        found["history"] = tuple(found.get("history") or ())
        found["best"] = Best.from_json(found["best"]) if found.get("best") else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: cannot be read as a checkpoint's state: {_said(error)}") from error
    return found


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
        ("history", found.get("history") or ()),
    ):
        if not all(type(entry) is dict for entry in each):
            raise ValueError(f"{name} is {found[name]!r}")


def _check_step(step: int, checkpoint: Path) -> None:
    """Raise ValueError for a step that cannot be, or is not the one that the folder is named after.

    What a run that goes on removes as newer is known by its name.
    """
    named = named_step(checkpoint)
    if step < 0:
        raise ValueError(f"step is {step}; must be at least 0")
    if named is not None and named != step:
        raise ValueError(
            f"step is {step}, in the folder of step {named}; a checkpoint's folder keeps its name"
        )


def _said(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _wanted(graph: Graph, prefix: str, *, without: Container[str] = ()) -> dict[str, Shape]:
    return {
        f"{prefix}{node.name}.{name}": parameter.shape
        for node in graph
        if node.name not in without
        for name, parameter in node.layer.parameters(*graph.input_shapes(node)).items()
    }


@contextmanager
def _safetensors(path: Path) -> Iterator[None]:
    try:
        check_regular(path)
        yield
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as safetensors: {error}") from error


@contextmanager
def model_file(checkpoint: Path) -> Iterator[Path]:
    """Yield the file of a checkpoint's weights, to be opened inside the `with`.

    What fails there is a UserError, which names the newest whole checkpoint beside it.
    """
    with _offering_another(checkpoint), _safetensors(checkpoint / MODEL):
        yield checkpoint / MODEL


def read_file(path: Path) -> dict[str, Array]:
    """Read all tensors of a file; UserError where it cannot be read as safetensors."""
    with _safetensors(path):
        try:
            tensors: dict[str, Array] = load_file(path)
        except (TypeError, AttributeError) as error:  # of a type that numpy has not: "BF16", "F8_E4M3"
            raise ValueError(f"it holds values of another type: {error}") from error
    return tensors


def _read(path: Path, wanted: dict[str, Shape]) -> dict[str, Array]:
    tensors = read_file(path)
    for name, shape in wanted.items():
        got = tensors.get(name)
        if got is None or got.shape != shape or got.dtype != np.float32:
            came = "nothing" if got is None else f"{got.dtype} {list(got.shape)}"
            raise UserError(f"{path}: holds {came} for {name}; the model wants float32 {list(shape)}")
    return tensors
