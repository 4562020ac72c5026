"""Whether a checkpoint is what was written; of a damaged one the error names another that is whole."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from safetensors import SafetensorError, safe_open

from engine.config.errors import UserError
from engine.config.files import check_regular, open_file, reading
from engine.run.kept_checkpoints import FOLDER, MODEL, OPTIMIZER, checkpoints_of, named_step, step_of
from engine.run.state import described_state
from engine.run.tensor_file import HEADER, PIECE, damaged_tensors, sum_of


@contextmanager
def offering_another(damaged: Path) -> Iterator[None]:
    """Let the error of a damaged checkpoint name the newest older one beside it that is whole."""
    try:
        yield
    except UserError as error:
        whole = _whole_before(damaged)
        if whole is None:
            raise
        raise type(error)(f"{error}; the one before it is whole: {whole}") from error


def check_whole(checkpoint: Path, names: tuple[str, ...] = (MODEL, OPTIMIZER)) -> None:
    """Raise UserError where one of these files of a checkpoint is missing, or not what was written.

    It names the tensors that are damaged, as far as the checkpoint has sums of them.
    """
    state = described_state(checkpoint)
    files, tensors = (state.get(each) or {} for each in ("files", "tensor_sums"))  # earlier versions: none
    for name in names:
        path, wanted = checkpoint / name, files.get(name)
        with as_safetensors(path), safe_open(path, "numpy"):
            pass
        with reading(path):
            found = _sum(path)
        if wanted is not None and found != wanted:
            both = (", ".join(f"{key} {value}" for key, value in each.items()) for each in (found, wanted))
            where = _damage(path, tensors.get(name) or {})
            raise UserError("{}: is damaged{}: has {}; had {} when it was written".format(path, where, *both))


def _damage(path: Path, sums: dict[str, int]) -> str:
    """Return where a file is damaged, as a part of a line; "" where that is not known."""
    try:
        found = damaged_tensors(path, sums) if sums else []
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
    if found == [HEADER]:
        return " in its header"
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f" in {found[0]}{more}" if found else ""


@contextmanager
def as_safetensors(path: Path) -> Iterator[None]:
    """Let what fails in reading a file of tensors be a UserError."""
    try:
        check_regular(path)
        yield
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as safetensors: {error}") from error


def newest_whole_of(run: Path, before: float = math.inf) -> Path | None:
    """Return the newest checkpoint of a run that is whole, of those before a step; None where none is."""
    for checkpoint in reversed(checkpoints_of(run)):
        if step_of(checkpoint) < before:
            with suppress(UserError):
                check_whole(checkpoint)
                return checkpoint
    return None


def _whole_before(damaged: Path) -> Path | None:
    step = named_step(damaged)
    if damaged.parent.name != FOLDER or step is None:
        return None
    return newest_whole_of(damaged.parent.parent, before=step)


def _sum(path: Path) -> dict[str, int]:
    with open_file(path) as file:
        return sum_of(iter(partial(file.read, PIECE), b""))
