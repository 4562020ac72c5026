"""The checkpoint that a user means: one by its folder, or the newest or best one of a run."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from engine.config.errors import UserError
from engine.config.files import reading
from engine.run.kept_checkpoints import STATE, best_of, checkpoint_folder, checkpoints_of, step_of
from engine.run.run_folder import RECIPE

T = TypeVar("T")

_LOOKS = 3  # for a newer checkpoint


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


def read_found(path: Path, read: Callable[[Path], T], *, what: str, best: bool = False) -> T:
    """Return what `read` makes of the checkpoint that `find_checkpoint` finds; or of a run's best one.

    A run that goes on may remove it between finding and reading; then there is another, which is read.

    Raises
    ------
    UserError
        There is none, or `read` refuses it.
    """
    checkpoint = _found(path, what, best=best)
    for _ in range(_LOOKS):
        try:
            return read(checkpoint)
        except (UserError, OSError):
            now = _found(path, what, best=best)
            if now == checkpoint:
                raise
            checkpoint = now
    return read(checkpoint)


def best_checkpoint(run: Path) -> Path | None:
    """Return the checkpoint of a run that is noted as its best; None where none is."""
    best = best_of(run)
    return None if best is None else checkpoint_folder(run, best.step)


def better_than_newest(run: Path) -> str:
    """Return what is said where a run's newest checkpoint is taken and another is its best; else ""."""
    best, found = best_of(run), checkpoints_of(run)
    if best is None or not found or step_of(found[-1]) == best.step:
        return ""
    return (
        f"note: of {run} the newest checkpoint is taken, of step {step_of(found[-1])}; the best one is "
        f"{checkpoint_folder(run, best.step)} ({best.metric} {best.value:.4f})"
    )


def _found(path: Path, what: str, *, best: bool) -> Path:
    newest = find_checkpoint(path, what=what)
    if not best:
        return newest
    found = best_checkpoint(path)
    if found is None:
        which = "is a checkpoint" if newest == path else "notes no best checkpoint"
        raise UserError(f"best: {path} {which}; must be a run that was trained with --keep-best")
    return found


def _instead(path: Path) -> str:
    """Return what a place without a checkpoint is."""
    if not path.exists():
        return ": there is no such folder"
    if (path / RECIPE).is_file():
        return ": the run there has saved none so far"
    return "; give a run's folder or one of its checkpoints"
